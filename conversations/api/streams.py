"""Answers with server-sent events, for all streaming endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from queue import Empty

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase

from channels.callers import Caller
from common import db
from common.logs import request_id_var
from conversations.chat import streaming
from conversations.chat.answer import Asked, Format
from conversations.chat.calls import Answer, Answering, Begun, Replay
from conversations.chat.streaming import Stream


def stream_answer(caller: Caller, asked: Asked) -> HttpResponseBase:
    """Answer with events. Raises errors from before the call, or from soon after its start."""
    db.release_connection()
    stream = Stream(caller, asked, request_id=request_id_var.get())
    first = stream.next()
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    events: Iterable[bytes]
    if isinstance(first, Begun):
        events = _begin(stream, asked.events(caller, first), headers)
    elif isinstance(first, BaseException):
        raise first
    else:
        assert isinstance(first, Replay), "no piece goes before Begun"
        headers["Idempotency-Replayed"] = "true"
        events = asked.replay(first.body)
    response = StreamingHttpResponse(events, content_type="text/event-stream", headers=headers)
    # Needed if the caller leaves before the first event is read: a generator that never ran cannot
    # wait for its turn.
    response._resource_closers.append(stream.finish)  # type: ignore[attr-defined]  # Django's own
    return response


def _begin(stream: Stream, form: Format, headers: dict[str, str]) -> Iterable[bytes]:
    """Return the events of a running call. If the provider is known in time, sets its header.

    Raises the call's error if it comes by then. A later error becomes an event.
    """
    with suppress(Empty):
        item = stream.next(timeout=streaming.KEEP_ALIVE_SECONDS)
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Answer):  # without pieces
            headers["X-Gateway-Provider"] = item.provider_name
            return [form.end(item)]
        assert isinstance(item, Answering), "no piece goes before who answers"
        headers["X-Gateway-Provider"] = item.provider_name
        return streaming.frames(stream, form)
    return chain([streaming.KEEP_ALIVE], streaming.frames(stream, form))

"""Answering with server-sent events: what both streaming endpoints do alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase

from common import db
from conversations import streaming
from conversations.calls import Begun, Outcome, Tell
from conversations.streaming import Format, Stream


def stream_answer(
    run: Callable[[Tell], Outcome],
    *,
    form: Callable[[Begun], Format[Outcome]],
    replay: Callable[[bytes], Iterable[bytes]],
) -> HttpResponseBase:
    """Answer with events; what fails before the first piece is raised as ever.

    `form` writes an answer that has begun, `replay` one that was stored earlier.
    """
    db.release_connection()
    stream = Stream(run)
    first = stream.next()
    if isinstance(first, BaseException):
        raise first
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    events: Iterable[bytes]
    if isinstance(first, Begun):
        headers["X-Gateway-Provider"] = first.provider_name
        events = streaming.frames(stream, form(first))
    else:
        assert isinstance(first, Outcome), "no piece goes before Begun"
        if first.answer is None:
            headers["Idempotency-Replayed"] = "true"
            events = replay(first.body)
        else:  # an answer of no piece
            begun = Begun.of(first.answer)
            headers["X-Gateway-Provider"] = begun.provider_name
            events = [form(begun).end(first)]
    response = StreamingHttpResponse(events, content_type="text/event-stream", headers=headers)
    # Also where the caller is gone before the first event was asked for: a generator that never
    # ran cannot wait for its turn.
    response._resource_closers.append(stream.finish)  # type: ignore[attr-defined]  # Django's own
    return response

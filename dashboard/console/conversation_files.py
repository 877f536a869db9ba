"""Conversations as files: one JSON object for each session, or one CSV line for each message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from django.http import StreamingHttpResponse

from common.money import format_credits
from common.pages.spreadsheets import lines
from conversations.archive.transcripts import Messages
from conversations.models import ChatSession
from dashboard.console.downloads import download

Transcripts = Iterable[tuple[ChatSession, Messages]]

_CSV_COLUMNS = (
    "channel", "session_id", "created_at_utc", "role", "text", "page", "model", "provider",
    "input_tokens", "output_tokens", "credits", "duration_ms", "prompt_version", "rating", "note",
)  # fmt: skip


def answer(transcripts: Transcripts, *, name: str, kind: str) -> StreamingHttpResponse:
    """Stream the sessions as `jsonl` or `csv` while they are read."""
    if kind == "csv":
        rows = lines(_CSV_COLUMNS, _rows(transcripts))
        return download(rows, name=f"{name}.csv", content_type="text/csv")
    return download(json_lines(transcripts), name=f"{name}.jsonl", content_type="application/jsonl")


def json_lines(transcripts: Transcripts) -> Iterator[str]:
    """Yield one line for each session, and write its messages as they are read."""
    for session, messages in transcripts:
        found = {
            "channel_id": session.channel_id,
            "channel": session.channel.name,
            "session_id": session.session_id,
            "mode": "test" if session.is_test else "live",
            "created_at": session.created_at,
            "last_message_at": session.last_message_at,
            "messages": [],
        }
        yield _json(found).removesuffix("]}")
        for number, one in enumerate(messages):
            yield ("," if number else "") + _json(_message(one))
        yield "]}\n"


def _json(value: dict[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()


def _message(message: dict[str, Any]) -> dict[str, Any]:
    shared = {name: message[name] for name in ("role", "content", "created_at")}
    if message["role"] == "user":
        return shared | {"page": {"url": message["page_url"], "title": message["page_title"]}}
    return shared | {
        "message_id": message["id"],
        "request_id": message["request_id"],
        "model": message["request_model"],
        "provider": message["provider_name"],
        "finish_reason": message["finish_reason"],
        "prompt_tokens": message["input_tokens"],
        "completion_tokens": message["output_tokens"],
        "credits": format_credits(message["charged_microcredits"]),
        "duration_ms": message["duration_ms"],
        "prompt_version": message["prompt_version"],
        "feedback": {"rating": message["feedback__rating"], "note": message["feedback__note"]},
    }


def _rows(transcripts: Transcripts) -> Iterator[list[Any]]:
    for session, messages in transcripts:
        for one in messages:
            yield [
                session.channel.name,
                session.session_id,
                f"{one['created_at']:%Y-%m-%d %H:%M:%S}",
                one["role"],
                one["content"],
                one["page_url"],
                one["request_model"],
                one["provider_name"],
                one["input_tokens"],
                one["output_tokens"],
                format_credits(one["charged_microcredits"]),
                one["duration_ms"],
                one["prompt_version"],
                one["feedback__rating"],
                one["feedback__note"],
            ]

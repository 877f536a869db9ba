"""Bodies of the chat API: hand-written checks of requests, and schemas for OpenAPI beside them.

A hand-written check costs a tenth of a serializer's and never coerces: a number is not a string.
test_contract.py makes sure that checks and schemas agree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from django.http import HttpResponse
from rest_framework import serializers

from channels.callers import Caller
from channels.providers.base import Delta
from channels.providers.tokens import describe_usage
from common.api.rendering import error_body, to_api_error
from common.errors import ApiError, InvalidRequest
from common.logs import request_id_var
from common.money import format_credits
from conversations.chat import streaming
from conversations.chat.calls import Answer, Begun, Replay
from conversations.chat.history import HistoryRow
from conversations.chat.idempotency import Key, fingerprint
from conversations.chat.message import Incoming

logger = logging.getLogger("gateway.conversations")

MAX_MESSAGE = 2_000
MAX_SESSION_ID = 255
MAX_URL = 2_048
MAX_TITLE = 512
MAX_IDEMPOTENCY_KEY = 255
# Patterns for the OpenAPI document that match what the checks below accept: no NUL, not only white
# space, and a message of at most 2,000 characters, not counting white space around it.
# White space as Python strips it; other regular expressions do not count the separators.
_SPACE = r"\s\u001c-\u001f"
_SHOWN = rf"[^{_SPACE}\u0000]"
MESSAGE_PATTERN = rf"^[{_SPACE}]*{_SHOWN}([^\u0000]{{0,{MAX_MESSAGE - 2}}}{_SHOWN})?[{_SPACE}]*$"
SESSION_ID_PATTERN = rf"^[^\u0000]*{_SHOWN}[^\u0000]*$"
# Answers carry a warning from four fifths of the daily quota on.
WARN_FROM_FIFTHS = 4


class ChatMetadataSchema(serializers.Serializer[Any]):
    """Context for the agent: the page the visitor is on. Unknown members are ignored."""

    url = serializers.CharField(
        max_length=MAX_URL, required=False, allow_null=True, allow_blank=True
    )
    title = serializers.CharField(
        max_length=MAX_TITLE, required=False, allow_null=True, allow_blank=True
    )


class ChatRequestSchema(serializers.Serializer[Any]):
    """A visitor's message. Unknown members are ignored."""

    message = serializers.RegexField(
        MESSAGE_PATTERN, help_text="1 to 2,000 characters after trimming."
    )
    session_id = serializers.RegexField(
        SESSION_ID_PATTERN,
        max_length=MAX_SESSION_ID,
        help_text="You choose it. It belongs to this channel only.",
    )
    metadata = ChatMetadataSchema(required=False, allow_null=True)
    stream = serializers.BooleanField(
        required=False, allow_null=True, help_text="True: server-sent events instead of one body."
    )


class CachedTokensSchema(serializers.Serializer[Any]):
    cached_tokens = serializers.IntegerField(
        help_text="Prompt tokens that were cached; part of `prompt_tokens`."
    )


class ReasoningTokensSchema(serializers.Serializer[Any]):
    reasoning_tokens = serializers.IntegerField(
        help_text="Tokens of the model's reasoning; part of `completion_tokens`."
    )


class UsageSchema(serializers.Serializer[Any]):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    prompt_tokens_details = CachedTokensSchema(
        required=False, help_text="Present if the provider reports it."
    )
    completion_tokens_details = ReasoningTokensSchema(
        required=False, help_text="Present if the provider reports it."
    )
    estimated = serializers.BooleanField(
        required=False, help_text="Present and true if the provider reported no usage."
    )


class CreditsSchema(serializers.Serializer[Any]):
    charged = serializers.CharField(help_text="Decimal credits with six places.")
    remaining = serializers.CharField(help_text="The credits that can be spent now.")


class ChatResponseSchema(serializers.Serializer[Any]):
    reply = serializers.CharField(help_text="Markdown, as the model wrote it.")
    session_id = serializers.CharField()
    message_id = serializers.CharField()
    model = serializers.CharField(
        help_text="The model that answered: the channel's, or its fallback model."
    )
    finish_reason = serializers.CharField()
    usage = UsageSchema()
    credits = CreditsSchema()


class ChatEventSchema(serializers.Serializer[Any]):
    """One server-sent event of a streamed reply."""

    event = serializers.ChoiceField(choices=["delta", "done", "error"])
    data = serializers.CharField(  # type: ignore[assignment]  # a member of that name
        help_text='JSON. For `delta`: {"text": the next piece}. For `done`: a ChatResponseSchema. '
        "For `error`: an ErrorSchema."
    )


class HistoryMessageSchema(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="For a reply, this is its message_id.")
    role = serializers.ChoiceField(choices=["user", "assistant"])
    content = serializers.CharField()
    created_at = serializers.DateTimeField()


class HistorySchema(serializers.Serializer[Any]):
    messages = HistoryMessageSchema(many=True)


class AskedChat(Incoming):
    """A message to POST /api/chat, and how its answer looks."""

    __slots__ = ()

    def render(self, answer: Answer) -> bytes:
        body = {
            "reply": answer.completion.text,
            "session_id": self.session_id,
            "message_id": str(answer.call.hold.id),
            "model": answer.call.caller.model.model_id,
            "finish_reason": answer.completion.finish_reason,
            "usage": describe_usage(answer.usage),
            "credits": {
                "charged": format_credits(answer.settlement.charged_microcredits),
                "remaining": format_credits(answer.settlement.available_microcredits),
            },
        }
        return orjson.dumps(body)

    def events(self, caller: Caller, begun: Begun) -> ChatEvents:
        return ChatEvents(caller)

    def replay(self, body: bytes) -> list[bytes]:
        return [streaming.delta(orjson.loads(body)["reply"]), streaming.event("done", body)]


class ChatEvents:
    """Writes a stream as `delta` events and one `done` or `error`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._request_id = request_id_var.get()

    def delta(self, delta: Delta) -> bytes:
        assert isinstance(delta, str), "no tools were offered"
        return streaming.delta(delta)

    def end(self, answer: Answer) -> bytes:
        return streaming.event("done", answer.body)

    def error(self, error: Exception) -> bytes:
        body = error_body(
            stream_error(error),
            fallback_replies=self._caller.fallback_replies,
            request_id=self._request_id,
        )
        return streaming.event("error", orjson.dumps(body))


def parse_chat_request(
    data: dict[str, Any], key: Key | None = None, simulate: str = ""
) -> AskedChat:
    """Return the validated message. Raises InvalidRequest naming every field that is wrong."""
    fields: dict[str, str] = {}
    message = check_text(data, "message", fields, limit=None, required=True).strip()
    if "message" not in fields and not 1 <= len(message) <= MAX_MESSAGE:
        fields["message"] = (
            f"Must be 1 to {MAX_MESSAGE:,} characters long, not counting white space at the ends; "
            f"this one has {len(message):,}."
        )
    session_id = check_session_id(data, fields)
    page_url = page_title = ""
    if (metadata := data.get("metadata")) is not None:
        page_url, page_title = _parse_page(metadata, fields)
    is_stream = data.get("stream")
    if is_stream is not None and not isinstance(is_stream, bool):
        fields["stream"] = "Must be true or false."
    if fields:
        raise InvalidRequest(fields=fields)
    return AskedChat(
        message=message,
        session_id=session_id,
        page_url=page_url,
        page_title=page_title,
        is_stream=bool(is_stream),
        idempotency_key=key,
        simulate=simulate,
    )


def check_session_id(data: Any, fields: dict[str, str]) -> str:
    """Return the session id unchanged. Adds what is wrong with it to `fields`."""
    session_id = check_text(data, "session_id", fields, limit=MAX_SESSION_ID, required=True)
    if "session_id" not in fields and not session_id.strip():
        fields["session_id"] = "Must not be empty or only white space."
    return session_id


def _parse_page(metadata: Any, fields: dict[str, str]) -> tuple[str, str]:
    """Return the page's address and title. Adds what is wrong with them to `fields`."""
    if not isinstance(metadata, dict):
        fields["metadata"] = "Must be an object."
        return "", ""
    return (
        check_text(metadata, "url", fields, limit=MAX_URL, path="metadata.url"),
        check_text(metadata, "title", fields, limit=MAX_TITLE, path="metadata.title"),
    )


def check_text(
    data: Any,
    name: str,
    fields: dict[str, str],
    *,
    limit: int | None,
    required: bool = False,
    path: str = "",
) -> str:
    """Return a string member. If it is wrong, adds the reason to `fields` and returns ''."""
    value = data.get(name)
    problem = ""
    if value is None:
        problem = "This field is required." if required else ""
    elif not isinstance(value, str):
        problem = "Must be a string."
    elif limit is not None and len(value) > limit:
        problem = f"Must be at most {limit:,} characters long; this one has {len(value):,}."
    elif "\x00" in value:
        problem = "Must not contain NUL characters."
    elif not value.isascii() and _has_surrogate(value):
        problem = "Must not contain lone surrogates (half of a character pair)."
    if problem:
        fields[path or name] = problem
    return "" if problem or value is None else str(value)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def render_history(pieces: Iterable[Sequence[HistoryRow]]) -> Iterator[bytes]:
    """Yield the body of a history piece by piece. If it is cut short, it is not valid JSON."""
    yield b'{"messages":['
    separator = b""
    for rows in pieces:
        messages = [
            {"id": row.id, "role": row.role, "content": row.content, "created_at": row.created_at}
            for row in rows
        ]
        yield separator + orjson.dumps(messages, option=orjson.OPT_UTC_Z)[1:-1]
        separator = b","
    yield b"]}"


def read_idempotency_key(header: str, body: bytes, *, path: str) -> Key:
    """Return the caller's Idempotency-Key with the request it came with. Raises InvalidRequest."""
    if len(header) > MAX_IDEMPOTENCY_KEY or not header.isprintable():
        rule = f"Must be 1 to {MAX_IDEMPOTENCY_KEY} printable characters."
        raise InvalidRequest(fields={"Idempotency-Key": rule})
    return Key(header, fingerprint(body, path=path))


def respond(answer: Answer | Replay) -> HttpResponse:
    """Return an answer with the credits left, the provider, and a warning before a limit."""
    if isinstance(answer, Replay):
        headers = {"Idempotency-Replayed": "true"}
        return HttpResponse(answer.body, content_type="application/json", headers=headers)
    headers = {
        "X-Credits-Remaining": format_credits(answer.settlement.available_microcredits),
        "X-Gateway-Provider": answer.provider_name,
    }
    warnings = []
    used, quota = answer.call.hold.messages_today, answer.call.caller.daily_quota
    if 5 * used >= WARN_FROM_FIFTHS * quota:
        warnings.append(f"daily_quota; used={used}; limit={quota}")
    if answer.settlement.is_low:
        warnings.append("low_balance")
    if warnings:
        headers["X-Budget-Warning"] = ", ".join(warnings)
    return HttpResponse(answer.body, content_type="application/json", headers=headers)


def stream_error(exception: Exception) -> ApiError:
    """Return the error that ends a stream. Logs a crash here, because nobody else sees it."""
    error = to_api_error(exception)
    if not isinstance(exception, ApiError):
        logger.error("api.stream.failed", extra={"code": error.code}, exc_info=exception)
    return error

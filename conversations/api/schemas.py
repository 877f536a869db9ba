"""Schemas of /api/chat and /api/history for the OpenAPI document.

The checks themselves are written by hand (chat.py, history.py). test_contract.py makes sure that
checks and schemas agree.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

MAX_MESSAGE = 2_000
MAX_SESSION_ID = 255
MAX_URL = 2_048
MAX_TITLE = 512
# Patterns for the OpenAPI document that match what the checks below accept: no NUL, not only white
# space, and a message of at most 2,000 characters, not counting white space around it.
# White space as Python strips it; other regular expressions do not count the separators.
_SPACE = r"\s\u001c-\u001f"
_SHOWN = rf"[^{_SPACE}\u0000]"
MESSAGE_PATTERN = rf"^[{_SPACE}]*{_SHOWN}([^\u0000]{{0,{MAX_MESSAGE - 2}}}{_SHOWN})?[{_SPACE}]*$"
SESSION_ID_PATTERN = rf"^[^\u0000]*{_SHOWN}[^\u0000]*$"


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

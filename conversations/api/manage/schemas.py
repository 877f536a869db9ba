"""Bodies and parameters of /api/manage/, described for OpenAPI."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from channels import time_zones
from channels.fixed_answers import MOST_WORDINGS
from channels.models import (
    LONGEST_QUESTION,
    LONGEST_SAVED_REPLY,
    LONGEST_STOP_WORD,
    MAX_SYSTEM_PROMPT_CHARACTERS,
    MOST_STOP_WORDS,
    SHORTEST_ANSWER_TOKENS,
    ApiKey,
)
from channels.models.tags import LONGEST_TAG, MOST_TAGS
from common.api import openapi
from conversations.api.usage import SumsSchema
from conversations.usage import receipts

CHANNEL_ID = OpenApiParameter("channel_id", uuid.UUID, "path", description="The channel's id.")
KEY_ID = OpenApiParameter("key_id", uuid.UUID, "path", description="The key's id.")
REPLY_ID = OpenApiParameter("reply_id", int, "path", description="The saved reply's id.")
PROMPT_NUMBER = OpenApiParameter("number", int, "path", description="The version's number.")
LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 100},
    description="How many rows a page has at most; default: 100.",
)
CURSOR = OpenApiParameter("cursor", str, description="The next_cursor of the page before.")
EXTERNAL_ID = OpenApiParameter(
    "external_id", str, description="Only the channel with this external_id."
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    "header",
    description="At most 255 characters. For 24 hours, the same key and body change nothing again "
    "and get the same answer.",
)
USAGE = [
    OpenApiParameter("from", date, description="The first day; default: 30 days ago."),
    OpenApiParameter("to", date, description="The last day, included; default: today."),
    OpenApiParameter(
        "time_zone",
        str,
        description="The time zone of the days, an IANA name such as UTC; default: the account's.",
    ),
    OpenApiParameter("group_by", str, enum=receipts.ACCOUNT_GROUPS, description="Default: day."),
]


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """Return the documented errors of an operation: these, and those that all have."""
    return openapi.errors(*sorted({*statuses, 401, 403, 405, 429, 500, 503}))


class AnswerSettingsChangesSchema(serializers.Serializer[Any]):
    temperature = serializers.FloatField(
        min_value=0,
        max_value=2,
        required=False,
        help_text='At most two decimals. "": the provider decides.',
    )
    max_answer_tokens = serializers.IntegerField(
        min_value=SHORTEST_ANSWER_TOKENS,
        max_value=2_147_483_647,
        required=False,
        help_text='The longest answer, at most the model\'s own. "": that.',
    )
    stop_words = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_STOP_WORD),
        max_length=MOST_STOP_WORDS,
        required=False,
        help_text="An answer ends before the first of them. Empty: none.",
    )
    fallback_model = serializers.CharField(
        required=False,
        allow_blank=True,
        help_text='Answers a visitor if every provider of the channel\'s model fails. "": none.',
    )


class AnswerSettingsSchema(serializers.Serializer[Any]):
    temperature = serializers.FloatField(allow_null=True)
    max_answer_tokens = serializers.IntegerField(allow_null=True)
    stop_words = serializers.ListField(child=serializers.CharField())
    fallback_model = serializers.CharField(allow_null=True)


class ChannelChangesSchema(AnswerSettingsChangesSchema):
    """The settings to change. Members that are left out or null stay as they are.

    A changed prompt or answer setting is a new version of the prompt.
    """

    name = serializers.CharField(max_length=120, required=False)
    external_id = serializers.CharField(
        max_length=120,
        required=False,
        allow_blank=True,
        help_text='Your own id for the channel, unique in the account. "": none.',
    )
    site_url = serializers.CharField(max_length=200, required=False, allow_blank=True)
    tags = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_TAG),
        max_length=MOST_TAGS,
        required=False,
        help_text="Without commas. Equal ones, whatever their case, are one tag. Replaces all.",
    )
    enabled = serializers.BooleanField(required=False)
    model = serializers.CharField(required=False, help_text="A model's id, as in GET /api/models.")
    requests_per_minute = serializers.IntegerField(min_value=1, max_value=100_000, required=False)
    daily_quota = serializers.IntegerField(min_value=1, max_value=2_147_483_647, required=False)
    fallback_replies = serializers.DictField(
        child=serializers.CharField(max_length=2_000),
        required=False,
        help_text="By error code, the text to show the visitor. Replaces all of them.",
    )
    system_prompt = serializers.CharField(
        max_length=MAX_SYSTEM_PROMPT_CHARACTERS, required=False, allow_blank=True
    )


class NewChannelSchema(ChannelChangesSchema):
    """A new channel. Only the name is required. The default model is the catalogue's first."""

    name = serializers.CharField(max_length=120)


class ChannelSchema(AnswerSettingsSchema):
    """A channel. The text of its prompt is that of the prompt version."""

    id = serializers.UUIDField()
    external_id = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    site_url = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    enabled = serializers.BooleanField()
    model = serializers.CharField()
    prompt_version = serializers.IntegerField()
    requests_per_minute = serializers.IntegerField()
    daily_quota = serializers.IntegerField()
    fallback_replies = serializers.DictField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class RetiredChannelSchema(ChannelSchema):
    erased_messages = serializers.IntegerField()


class NewPromptVersionSchema(AnswerSettingsChangesSchema):
    """A prompt to publish, an answer setting, or both. What is left out stays as it is.

    If nothing differs from the current version, there is no new one (200).
    """

    text = serializers.CharField(
        max_length=MAX_SYSTEM_PROMPT_CHARACTERS,
        required=False,
        allow_blank=True,
        help_text="Required without an answer setting.",
    )
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


class PromptVersionSummarySchema(AnswerSettingsSchema):
    number = serializers.IntegerField()
    note = serializers.CharField()
    author = serializers.CharField(
        allow_null=True, help_text="The person's e-mail address; null for a program."
    )
    created_at = serializers.DateTimeField()


class PromptVersionSchema(PromptVersionSummarySchema):
    text = serializers.CharField()


class KeyTermsSchema(serializers.Serializer[Any]):
    """The terms to change. Members that are left out or null stay as they are."""

    name = serializers.CharField(max_length=80, required=False, allow_blank=True)
    expires_at = serializers.CharField(
        required=False, allow_blank=True, help_text='The last moment it works. "": no end.'
    )
    allowed_addresses = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Ranges such as 203.0.113.0/24. Empty: every address.",
    )
    allowed_models = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Empty: every model."
    )


class KeyChangesSchema(KeyTermsSchema):
    exclude_latest_caller = serializers.BooleanField(
        required=False,
        help_text="true: save `allowed_addresses` even if they exclude the address that last used "
        "the key. Otherwise that is 400.",
    )


class NewKeySchema(KeyTermsSchema):
    """A new key. Without terms, it has no end, and works everywhere and for every model."""

    mode = serializers.ChoiceField(
        choices=ApiKey.Mode.values, required=False, help_text="Default: live."
    )


class RotationSchema(serializers.Serializer[Any]):
    overlap_seconds = serializers.IntegerField(
        min_value=0,
        max_value=604_800,
        required=False,
        help_text="How long the old key still works; default: 86400. 0 revokes it at once.",
    )


class ChannelKeySchema(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    masked = serializers.CharField()
    mode = serializers.ChoiceField(choices=ApiKey.Mode.values)
    active = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    allowed_addresses = serializers.ListField(child=serializers.CharField())
    allowed_models = serializers.ListField(child=serializers.CharField())


class IssuedKeySchema(ChannelKeySchema):
    key = serializers.CharField(
        allow_null=True,
        help_text="The key itself. null in a replay after the key has ended.",
    )


def _wordings(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_QUESTION),
        max_length=MOST_WORDINGS - 1,
        help_text="Other ways to ask the question. Each gets the same answer.",
        **options,
    )


class NewSavedReplySchema(serializers.Serializer[Any]):
    """A saved reply. One that is there already creates no other (200)."""

    question = serializers.CharField(max_length=LONGEST_QUESTION)
    wordings = _wordings(required=False)
    answer = serializers.CharField(max_length=LONGEST_SAVED_REPLY)


class SavedReplyChangesSchema(serializers.Serializer[Any]):
    question = serializers.CharField(max_length=LONGEST_QUESTION, required=False)
    wordings = _wordings(required=False)
    answer = serializers.CharField(max_length=LONGEST_SAVED_REPLY, required=False)


class SavedReplySchema(NewSavedReplySchema):
    id = serializers.IntegerField()
    wordings = _wordings()


class CapLimitsSchema(serializers.Serializer[Any]):
    """Both limits. null, or left out: no limit."""

    day = serializers.CharField(
        required=False, allow_null=True, help_text='Credits, such as "12.5".'
    )
    month = serializers.CharField(required=False, allow_null=True)


class CapPeriodSchema(serializers.Serializer[Any]):
    limit = serializers.CharField(help_text="In credits, with six places.")
    spent = serializers.CharField(help_text="In credits, with requests in flight.")
    resets_at = serializers.DateTimeField()


class CapSchema(serializers.Serializer[Any]):
    """A spend cap. null: no limit."""

    day = CapPeriodSchema(allow_null=True)
    month = CapPeriodSchema(allow_null=True)


class AccountChangesSchema(serializers.Serializer[Any]):
    """What to change. Members that are left out or null stay as they are."""

    time_zone = serializers.CharField(
        max_length=time_zones.LONGEST_NAME,
        required=False,
        help_text="An IANA name, such as Europe/Berlin.",
    )
    quota_in_time_zone = serializers.BooleanField(
        required=False, help_text="Whether `daily_quota` counts by its days, not by UTC days."
    )


class LimitDaysSchema(serializers.Serializer[Any]):
    time_zone = serializers.CharField(help_text="The zone that the limit counts by now.")
    until = serializers.DateTimeField(
        allow_null=True, help_text="When the account's new zone takes its place; null: it has."
    )


class AccountLimitsSchema(serializers.Serializer[Any]):
    daily_quota = LimitDaysSchema()
    spend_cap_day = LimitDaysSchema()
    spend_cap_month = LimitDaysSchema()


class AccountSchema(serializers.Serializer[Any]):
    """The account. Usage has its new days at once, limits once the running period is over."""

    name = serializers.CharField()
    time_zone = serializers.CharField()
    quota_in_time_zone = serializers.BooleanField()
    limits = AccountLimitsSchema()


class ManagedUsageGroupSchema(SumsSchema):
    day = serializers.DateField(required=False)
    model = serializers.CharField(required=False)
    channel = serializers.UUIDField(required=False)


class ManagedUsageSchema(serializers.Serializer[Any]):
    to = serializers.DateField()
    time_zone = serializers.CharField()
    group_by = serializers.ChoiceField(choices=receipts.ACCOUNT_GROUPS)
    total = SumsSchema()
    groups = ManagedUsageGroupSchema(many=True)


# `from` is a Python keyword.
ManagedUsageSchema._declared_fields["from"] = serializers.DateField()


class _PageSchema(serializers.Serializer[Any]):
    next_cursor = serializers.CharField(
        allow_null=True, help_text="Send it as `cursor` to get the next page. null: the last page."
    )


class ChannelPageSchema(_PageSchema):
    data = ChannelSchema(many=True)  # type: ignore[assignment]  # a member of that name


class PromptVersionPageSchema(_PageSchema):
    data = PromptVersionSummarySchema(many=True)  # type: ignore[assignment]


class KeyPageSchema(_PageSchema):
    data = ChannelKeySchema(many=True)  # type: ignore[assignment]


class SavedReplyPageSchema(_PageSchema):
    data = SavedReplySchema(many=True)  # type: ignore[assignment]

"""Response bodies of /api/key and /api/models, described for OpenAPI."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class KeyChannelSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    enabled = serializers.BooleanField()


class KeyInfoSchema(serializers.Serializer[Any]):
    masked = serializers.CharField()
    name = serializers.CharField(help_text="The name that its owner gave it, or ''.")
    mode = serializers.ChoiceField(choices=["live", "test"])
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    allowed_models = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="The models it may use. null: every model that its channel may use.",
    )


class MinuteSchema(serializers.Serializer[Any]):
    limit = serializers.IntegerField()
    remaining = serializers.IntegerField()
    resets_at = serializers.DateTimeField()


class DaySchema(MinuteSchema):
    used = serializers.IntegerField()
    resets_at = serializers.DateTimeField(
        help_text="When the quota's day ends: at 00:00 UTC, or at 00:00 in the account's time zone "
        "if its owner chose so."
    )


class SpendCapSchema(serializers.Serializer[Any]):
    of = serializers.ChoiceField(choices=["channel", "key"])
    period = serializers.ChoiceField(choices=["day", "month"])
    limit = serializers.CharField(help_text="In credits.")
    remaining = serializers.CharField()
    resets_at = serializers.DateTimeField()


class LimitsSchema(serializers.Serializer[Any]):
    minute = MinuteSchema()
    day = DaySchema()
    spend = SpendCapSchema(many=True, help_text="The spend caps that apply, if there are any.")


class RemainingSchema(serializers.Serializer[Any]):
    remaining = serializers.CharField(help_text="What can be spent now, without held credits.")


class KeySchema(serializers.Serializer[Any]):
    channel = KeyChannelSchema()
    key = KeyInfoSchema()
    model = serializers.CharField()
    limits = LimitsSchema()
    credits = RemainingSchema()


class PriceSchema(serializers.Serializer[Any]):
    per_reply = serializers.CharField()
    per_1k_input_tokens = serializers.CharField()
    per_1k_output_tokens = serializers.CharField()
    per_1k_cached_input_tokens = serializers.CharField(
        required=False, help_text="Present if cached input has its own price."
    )


class ModelSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    context_window = serializers.IntegerField()
    max_output_tokens = serializers.IntegerField()
    speed_tps = serializers.IntegerField()
    best_for = serializers.CharField()
    price = PriceSchema()
    current = serializers.BooleanField()
    ends_on = serializers.DateField(
        allow_null=True, help_text="The UTC day on which the model retires, from 30 days before."
    )
    successor = serializers.CharField(
        allow_null=True,
        help_text="The id of the model to which the gateway moves its channels on that day.",
    )


class ModelsSchema(serializers.Serializer[Any]):
    models = ModelSchema(many=True)

"""GET /api/key and GET /api/models: what a key is, and which models it may choose."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext_noop
from rest_framework.request import Request
from rest_framework.response import Response

from billing import charges, settlement, spend_caps
from billing.api import serializers
from billing.throttling import ChatThrottle, CountedKey, ReadThrottle
from channels import catalogue
from channels.authentication import ChannelIsEnabled, caller_of
from common.api.base import ApiView
from common.api.openapi import describe, errors
from common.clock import rfc3339
from common.money import format_credits


class KeyView(ApiView):
    """Describes the key that was sent: its channel, limits, and credits."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="key",
        summary=gettext_noop("Describe this key and what is left of its limits"),
        responses={200: serializers.KeySchema} | errors(401, 403, 405, 429, 500, 503),
    )
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        now = timezone.now()
        minute = ChatThrottle().state(caller)
        used = charges.get_messages_used(caller=caller, now=now)
        available = settlement.get_available_microcredits(account_id=caller.account_id, now=now)
        return Response(
            {
                "channel": {
                    "id": str(caller.channel_id),
                    "name": caller.channel_name,
                    "enabled": caller.is_enabled,
                },
                "key": {
                    "masked": caller.key_masked,
                    "name": caller.key_name,
                    "mode": "test" if caller.is_test else "live",
                    "created_at": rfc3339(caller.key_created_at),
                    "expires_at": rfc3339(caller.key_expires_at),
                    "allowed_models": (
                        None if caller.allowed_models is None else sorted(caller.allowed_models)
                    ),
                },
                "model": caller.model.model_id,
                "limits": {
                    "minute": {
                        "limit": minute.limit,
                        "remaining": minute.remaining,
                        "resets_at": rfc3339(now + timedelta(seconds=minute.reset_seconds)),
                    },
                    "day": {
                        "limit": caller.daily_quota,
                        "used": used,
                        "remaining": max(0, caller.daily_quota - used),
                        "resets_at": rfc3339(caller.calendar.quota_day.span(now).ends_at),
                    },
                    "spend": [
                        {
                            "of": "key" if cap.key_id else "channel",
                            "period": spending.period,
                            "limit": format_credits(spending.limit_microcredits),
                            "remaining": format_credits(
                                spending.limit_microcredits - spending.used_microcredits
                            ),
                            "resets_at": rfc3339(spending.resets_at),
                        }
                        for cap in spend_caps.list_caps_of(caller)
                        for spending in spend_caps.list_spending(
                            cap, calendar=caller.calendar, now=now
                        )
                        if spending.limit_microcredits is not None
                    ],
                },
                "credits": {"remaining": format_credits(available)},
            }
        )


class ModelsView(ApiView):
    """Lists the models that the account may choose for this channel."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="models",
        summary=gettext_noop("List the models to choose from"),
        responses={200: serializers.ModelsSchema} | errors(401, 403, 405, 429, 500, 503),
    )
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        models = catalogue.list_models(
            account_id=caller.account_id, current_model_id=caller.model.model_id
        )
        return Response({"models": models})

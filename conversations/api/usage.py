"""GET /api/usage and GET /api/usage/{reference}: totals and receipts."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_noop
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.serializers import PriceSchema
from billing.throttling import CountedKey, ReadThrottle
from channels.authentication import ChannelIsEnabled, caller_of
from common.api.base import ApiView
from common.api.openapi import describe, errors
from common.days import UTC_NAME, day_of
from common.errors import InvalidRequest, NotFound
from conversations.api.schemas import UsageSchema
from conversations.usage import outcomes, receipts

MOST_DAYS = 366
DEFAULT_DAYS = 30


class ReceiptCreditsSchema(serializers.Serializer[Any]):
    charged = serializers.CharField()
    balance_after = serializers.CharField(
        allow_null=True, help_text="The account's balance after the charge; null if it was free."
    )


class ReceiptSchema(serializers.Serializer[Any]):
    message_id = serializers.CharField(
        allow_null=True,
        help_text="The reply's id; null if there is none. A replay has the original reply's.",
    )
    request_id = serializers.CharField()
    created_at = serializers.DateTimeField()
    outcome = serializers.ChoiceField(
        choices=outcomes.OUTCOMES,
        help_text="`failed`: the request began, but no answer came. `refused`: the gateway did not "
        "begin it. `replayed`: an Idempotency-Key returned the original answer.",
    )
    reason = serializers.CharField(
        help_text="The error's `code` if the request failed or was refused, otherwise empty."
    )
    model = serializers.CharField()
    provider = serializers.CharField(help_text="Empty if no provider's answer was charged.")
    usage = UsageSchema()
    price = PriceSchema(
        allow_null=True,
        help_text="The prices that the charge is based on; null without a charge to explain.",
    )
    credits = ReceiptCreditsSchema()


class SumsSchema(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    estimated_requests = serializers.IntegerField()
    credits = serializers.CharField()


class UsageGroupSchema(SumsSchema):
    day = serializers.DateField(required=False)
    model = serializers.CharField(required=False)


class UsageTotalsSchema(serializers.Serializer[Any]):
    to = serializers.DateField()
    time_zone = serializers.CharField()
    group_by = serializers.ChoiceField(choices=receipts.GROUPS)
    total = SumsSchema()
    groups = UsageGroupSchema(many=True)


# `from` is a Python keyword.
UsageTotalsSchema._declared_fields["from"] = serializers.DateField()


class UsageView(ApiView):
    """The channel's usage by day or model; its credits equal the ledger's charges."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="usage",
        summary=gettext_noop("Get usage and charges for a period"),
        parameters=[
            OpenApiParameter("from", date, description="The first UTC day; default: 30 days ago."),
            OpenApiParameter("to", date, description="The last UTC day, included; default: today."),
            OpenApiParameter("group_by", str, enum=receipts.GROUPS, description="Default: day."),
        ],
        responses={200: UsageTotalsSchema} | errors(400, 401, 403, 405, 429, 500, 503),
    )
    def get(self, request: Request) -> Response:
        query = request._request.GET
        group_by = query.get("group_by") or "day"
        fields: dict[str, str] = {}
        if group_by not in receipts.GROUPS:
            fields["group_by"] = "Must be day or model."
        period = read_period(query.get("from"), query.get("to"), fields)
        if fields:
            raise InvalidRequest(fields=fields)
        caller = caller_of(request)
        return Response(receipts.get_usage(caller=caller, period=period, group_by=group_by))


class ReceiptView(ApiView):
    """How one request ended, and what it cost."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="receipt",
        summary=gettext_noop("Get what one request cost, and why"),
        parameters=[
            OpenApiParameter(
                "reference",
                str,
                OpenApiParameter.PATH,
                description="A message id or request id. If several "
                "requests have the same request id, the latest counts.",
            )
        ],
        responses={200: ReceiptSchema} | errors(401, 403, 404, 405, 429, 500, 503),
    )
    def get(self, request: Request, reference: str) -> Response:
        receipt = receipts.find_receipt(caller=caller_of(request), reference=reference)
        if receipt is None:
            raise NotFound("This channel has no request with that message id or request id.")
        return Response(receipt)


def read_period(
    first: str | None, last: str | None, fields: dict[str, str], *, zone: str = UTC_NAME
) -> receipts.Period:
    """Return the requested days of a zone. Adds errors to `fields`."""
    today = day_of(timezone.now(), zone)
    to = _read_day(last, "to", fields) or today
    since = _read_day(first, "from", fields) or to - timedelta(days=DEFAULT_DAYS - 1)
    if not fields and not timedelta() <= to - since < timedelta(days=MOST_DAYS):
        fields["from"] = f"Must be no later than 'to', and at most {MOST_DAYS} days before it."
    return receipts.Period(since, to, zone)


def _read_day(text: str | None, name: str, fields: dict[str, str]) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # At the ends of the calendar there would be no day before or after.
    if day is None or not 2000 <= day.year <= 9000:
        fields[name] = "Must be a day such as 2026-11-30."
        return None
    return day

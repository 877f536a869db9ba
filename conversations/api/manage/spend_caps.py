"""…/spend-cap of a channel or a key: how many credits it may spend in a day and in a month."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_noop
from rest_framework.request import Request
from rest_framework.response import Response

from billing import spend_caps
from channels.account_callers import account_caller_of
from channels.models import ApiKey, Channel
from common.api.base import read_object
from common.api.openapi import describe
from common.clock import rfc3339
from common.errors import InvalidRequest
from common.money import format_credits
from conversations.api.manage import schemas
from conversations.api.manage.base import ManageView, find_channel, find_key
from conversations.api.manage.fields import Fields
from conversations.api.manage.schemas import errors


class ChannelCapView(ManageView):
    """The spend cap of a channel: all its keys together."""

    @describe(
        operation_id="manage_get_channel_cap",
        summary=gettext_noop("Get a channel's spend cap, and what is spent of it"),
        parameters=[schemas.CHANNEL_ID],
        responses={200: schemas.CapSchema} | errors(404),
    )
    def get(self, request: Request, channel_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        return Response(_describe_cap(channel, None))

    @describe(
        operation_id="manage_set_channel_cap",
        summary=gettext_noop("Set a channel's spend cap"),
        parameters=[schemas.CHANNEL_ID],
        request=schemas.CapLimitsSchema,
        responses={200: schemas.CapSchema} | errors(400, 404, 411, 413, 415),
    )
    def put(self, request: Request, channel_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        return _set_cap(request, channel, None)


class KeyCapView(ManageView):
    """The spend cap of a live key."""

    @describe(
        operation_id="manage_get_key_cap",
        summary=gettext_noop("Get a key's spend cap, and what is spent of it"),
        parameters=[schemas.CHANNEL_ID, schemas.KEY_ID],
        responses={200: schemas.CapSchema} | errors(404),
    )
    def get(self, request: Request, channel_id: str, key_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        return Response(_describe_cap(channel, find_key(channel, key_id)))

    @describe(
        operation_id="manage_set_key_cap",
        summary=gettext_noop("Set a live key's spend cap"),
        parameters=[schemas.CHANNEL_ID, schemas.KEY_ID],
        request=schemas.CapLimitsSchema,
        responses={200: schemas.CapSchema} | errors(400, 404, 411, 413, 415),
    )
    def put(self, request: Request, channel_id: str, key_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        key = find_key(channel, key_id)
        if key.mode == ApiKey.Mode.TEST:
            raise InvalidRequest("Test keys cost nothing and have no spend cap.")
        return _set_cap(request, channel, key)


def _set_cap(request: Request, channel: Channel, key: ApiKey | None) -> Response:
    _, data = read_object(request)
    fields = Fields(data)
    day, month = fields.credits("day"), fields.credits("month")
    fields.refuse_wrong()
    spend_caps.set_cap(
        channel=channel,
        key=key,
        day_microcredits=day,
        month_microcredits=month,
        actor=account_caller_of(request).actor,
        now=timezone.now(),
    )
    return Response(_describe_cap(channel, key))


def _describe_cap(channel: Channel, key: ApiKey | None) -> dict[str, Any]:
    """Return both limits, and what is spent of them. Without a limit, nothing is counted."""
    cap = spend_caps.find_cap(channel=channel, key=key)
    described: dict[str, Any] = {"day": None, "month": None}
    calendar, now = channel.account.calendar, timezone.now()
    for spending in spend_caps.list_spending(cap, calendar=calendar, now=now) if cap else ():
        if spending.limit_microcredits is not None:
            described[spending.period] = {
                "limit": format_credits(spending.limit_microcredits),
                "spent": format_credits(spending.used_microcredits),
                "resets_at": rfc3339(spending.resets_at),
            }
    return described

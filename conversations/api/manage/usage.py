"""/api/manage/usage, of the account or of one channel: totals that equal the ledger."""

from __future__ import annotations

import uuid

from django.utils.translation import gettext_noop
from rest_framework.request import Request
from rest_framework.response import Response

from channels import time_zones
from channels.account_callers import AccountCaller, account_caller_of
from common.api.openapi import describe
from common.errors import InvalidRequest
from conversations.api.manage import schemas
from conversations.api.manage.base import ManageView, find_channel, read_query
from conversations.api.manage.schemas import errors
from conversations.api.usage import read_period
from conversations.usage import receipts


class AccountUsageView(ManageView):
    """The usage of all channels of the account."""

    @describe(
        operation_id="manage_usage",
        summary=gettext_noop("Get the account's live usage and charges for a period"),
        parameters=schemas.USAGE,
        responses={200: schemas.ManagedUsageSchema} | errors(400),
    )
    def get(self, request: Request) -> Response:
        return _respond(request, account_caller_of(request), None)


class ChannelUsageView(ManageView):
    """The usage of one channel."""

    @describe(
        operation_id="manage_channel_usage",
        summary=gettext_noop("Get a channel's live usage and charges for a period"),
        parameters=[schemas.CHANNEL_ID, *schemas.USAGE],
        responses={200: schemas.ManagedUsageSchema} | errors(400, 404),
    )
    def get(self, request: Request, channel_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        return _respond(request, caller, channel.id)


def _respond(request: Request, caller: AccountCaller, channel_id: uuid.UUID | None) -> Response:
    """Return the usage of the account's days, as the console shows it, or of another zone's."""
    query = read_query(request)
    group_by = query.get("group_by") or "day"
    fields: dict[str, str] = {}
    zone = caller.account.time_zone
    if "time_zone" in query:
        zone = time_zones.find_name(query["time_zone"]) or ""
        if not zone:
            fields["time_zone"] = time_zones.NO_SUCH_ZONE
    if group_by not in receipts.ACCOUNT_GROUPS:
        fields["group_by"] = "Must be day, model or channel."
    period = read_period(query.get("from"), query.get("to"), fields, zone=zone)
    if fields:
        raise InvalidRequest(fields=fields)
    return Response(
        receipts.get_account_usage(
            account_id=caller.account_id, channel_id=channel_id, period=period, group_by=group_by
        )
    )

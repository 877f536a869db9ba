"""/api/manage/account: the account's name, and the time zone of its days."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_noop
from rest_framework.request import Request
from rest_framework.response import Response

from channels import time_zones
from channels.account_callers import account_caller_of
from channels.models import Account
from common.api.base import read_object
from common.api.openapi import describe
from common.clock import rfc3339
from conversations.api.manage import schemas
from conversations.api.manage.base import ManageView
from conversations.api.manage.fields import Fields
from conversations.api.manage.schemas import errors


class AccountView(ManageView):
    """The account of the key."""

    @describe(
        operation_id="manage_get_account",
        summary=gettext_noop("Get the account's name and time zone"),
        responses={200: schemas.AccountSchema} | errors(),
    )
    def get(self, request: Request) -> Response:
        return Response(_describe(account_caller_of(request).account, timezone.now()))

    @describe(
        operation_id="manage_update_account",
        summary=gettext_noop("Change the time zone of the account's days"),
        request=schemas.AccountChangesSchema,
        responses={200: schemas.AccountSchema} | errors(400, 409, 411, 413, 415),
    )
    def patch(self, request: Request) -> Response:
        caller = account_caller_of(request)
        _, data = read_object(request)
        fields = Fields(data)
        zone = fields.time_zone("time_zone")
        is_local = fields.boolean("quota_in_time_zone")
        fields.refuse_wrong()
        now = timezone.now()
        stored = time_zones.set_time_zone(
            account=caller.account,
            time_zone=zone,
            has_local_quota=is_local if fields.has("quota_in_time_zone") else None,
            actor=caller.actor,
            now=now,
        )
        return Response(_describe(stored, now))


def _describe(account: Account, now: datetime) -> dict[str, Any]:
    """Return the account's zone, and for each limit the zone it counts by, and until when."""
    calendar = account.calendar
    counts = {
        "daily_quota": calendar.quota_day,
        "spend_cap_day": calendar.day,
        "spend_cap_month": calendar.month,
    }
    turns = {name: count.waiting(now) for name, count in counts.items()}
    return {
        "name": account.name,
        "time_zone": account.time_zone,
        "quota_in_time_zone": account.has_local_quota,
        "limits": {
            name: {
                "time_zone": turn.before if turn else counts[name].zone,
                "until": rfc3339(turn.until) if turn else None,
            }
            for name, turn in turns.items()
        },
    }

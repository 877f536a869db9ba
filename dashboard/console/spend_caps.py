"""Spend caps of a channel and of its keys: a row for each, with what is spent."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import spend_caps
from billing.models import SpendCap
from billing.spend_caps import Spending
from channels.calendars import Calendar
from channels.models import ApiKey, Channel
from common.pages.forms import CreditsField, LabelledForm
from common.pages.requests import post_only
from conversations.usage.activity import sum_charged
from dashboard import mail_state
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.channels import add_errors
from dashboard.console.keys import get_key
from dashboard.console.pages import render_page

# More keys than anybody would cap one by one.
MOST_KEYS = 100


class SpendCapForm(LabelledForm):
    """The two limits of a channel or a key. Empty: no limit."""

    spend_cap_day = CreditsField(label=gettext_lazy("Credits a day"), required=False)
    spend_cap_month = CreditsField(label=gettext_lazy("Credits a month"), required=False)


@dataclass(frozen=True, slots=True)
class CapRow:
    """A channel (no key) or one of its live keys, with its form and what is spent."""

    key: ApiKey | None
    form: SpendCapForm
    spending: Sequence[Spending]

    @property
    def key_id(self) -> str:
        return str(self.key.id) if self.key else ""


@channel_page()
def spend_caps_page(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the caps of the channel and of its live keys."""
    return _render(request, member, channel)


@channel_page(needs=Role.EDITOR)
@post_only
def save_spend_cap(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Set the limits of the channel, or of the key that the form names."""
    key = None
    if key_id := request.POST.get("key"):
        key = get_key(channel, _read_id(key_id))
        if key not in _live_keys(channel):
            messages.error(
                request, _("Nothing was saved: this key does not work, or is a test key.")
            )
            return redirect("console:spend_caps", channel.id)
    form = _form(key, data=request.POST)
    if form.is_valid():
        try:
            spend_caps.set_cap(
                channel=channel,
                key=key,
                day_microcredits=form.cleaned_data["spend_cap_day"],
                month_microcredits=form.cleaned_data["spend_cap_month"],
                actor=member.actor,
                now=timezone.now(),
            )
        except ValidationError as error:
            add_errors(form, error)
    if form.errors:
        return _render(request, member, channel, rejected=(key, form), status=422)
    messages.success(request, _("Saved. The cap applies to the next request."))
    return redirect("console:spend_caps", channel.id)


def _live_keys(channel: Channel) -> list[ApiKey]:
    own = ApiKey.objects.filter(channel=channel, mode=ApiKey.Mode.LIVE, revoked_at=None)
    works = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    newest_first = own.filter(works).order_by("-created_at")
    return list(newest_first.defer("key_ciphertext", "key_digest")[:MOST_KEYS])


def _read_id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Http404 from None


def _form(key: ApiKey | None, **options: Any) -> SpendCapForm:
    return SpendCapForm(auto_id=f"{key.id if key else 'channel'}_%s", **options)


def _spent_without_cap(channel: Channel, calendar: Calendar, now: datetime) -> list[Spending]:
    """Return what the channel has spent. Leaves out calls in flight, unlike a cap."""
    period = spend_caps.period_of(calendar, now)
    by_day, by_month = sum_charged(
        channel=channel,
        day_starts_at=period.day.starts_at,
        month_starts_at=period.month.starts_at,
        ends_at=period.day.ends_at,
    )
    return [
        Spending("day", None, by_day, period.day.ends_at),
        Spending("month", None, by_month, period.month.ends_at),
    ]


def _render(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    *,
    rejected: tuple[ApiKey | None, SpendCapForm] | None = None,
    status: int = 200,
) -> HttpResponse:
    now = timezone.now()
    caps: dict[uuid.UUID, SpendCap] = {
        cap.id: cap for cap in spend_caps.list_caps(channel_ids=[channel.id])
    }
    rows = []
    for key in (None, *_live_keys(channel)):
        cap = caps.get(key.id if key else channel.id)
        initial = {
            "spend_cap_day": cap and cap.day_limit_microcredits,
            "spend_cap_month": cap and cap.month_limit_microcredits,
        }
        form = rejected[1] if rejected and rejected[0] == key else _form(key, initial=initial)
        calendar = member.account.calendar
        if cap:
            spending = spend_caps.list_spending(cap, calendar=calendar, now=now)
        else:
            spending = [] if key else _spent_without_cap(channel, calendar, now)
        rows.append(CapRow(key, form, spending))
    return render_page(
        request,
        member,
        "spend_caps.html",
        title=_("Spend caps"),
        channel=channel,
        rows=rows,
        mail_obstacle=mail_state.find_obstacle(),
        status=status,
    )


urlpatterns = [
    path("channels/<uuid:channel_id>/spend-caps/", spend_caps_page, name="spend_caps"),
    path("channels/<uuid:channel_id>/spend-caps/save/", save_spend_cap, name="save_spend_cap"),
]

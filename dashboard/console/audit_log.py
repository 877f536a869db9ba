"""The audit log of an account: who did what, and when, with the values before and after.

Filtered by action, person, channel and days; also as CSV.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels.models import AuditEntry
from common import db
from common.days import end_of, start_of, zone_of
from common.pages import dates
from common.pages.forms import LongSelect, SuggestingInput
from common.pages.spreadsheets import lines
from dashboard.console.access import Member, member_page
from dashboard.console.audit_words import words_of, words_of_field, words_of_value
from dashboard.console.downloads import download
from dashboard.console.filters import DaysForm, with_chosen
from dashboard.console.pages import render_page

ENTRIES_PER_PAGE = 50
# The page offers the actions of only this many latest entries, to avoid reading the whole log.
ENTRIES_LOOKED_THROUGH = 2_000
ENTRIES_A_READ = 500


class AuditFilters(DaysForm):
    """The filters of the log. Empty ones do not filter."""

    action = forms.CharField(
        required=False,
        max_length=254,
        label=gettext_lazy("What"),
        widget=LongSelect(attrs={"data-autosubmit": ""}),
    )
    person = forms.CharField(
        required=False, max_length=254, label=gettext_lazy("Who"), widget=SuggestingInput
    )
    channel = forms.CharField(
        required=False,
        max_length=120,
        label=gettext_lazy("Channel (name or id)"),
        widget=SuggestingInput,
    )
    field_order = ("action", "person", "channel", "first", "last")

    def offer(self, own: QuerySet[AuditEntry]) -> None:
        """Offer the actions, people and channels of the latest entries."""
        names = ("action", "actor_name", "channel__name")
        latest = own.order_by("-id").values_list(*names)[:ENTRIES_LOOKED_THROUGH]
        actions, people, channels = (
            sorted({*filter(None, one)}) for one in zip(("",) * 3, *latest, strict=True)
        )
        words = {one: words_of(one) for one in actions}
        known = with_chosen(words, self.value("action") or "", most=254)
        self.fields["action"].widget.choices = [("", _("Everything")), *known]
        self.fields["person"].widget.suggestions = people
        self.fields["channel"].widget.suggestions = channels

    def filter(self, entries: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """Return the entries to show. A filter that is in error does not filter."""
        if action := self.value("action"):
            entries = entries.filter(action=action)
        if person := self.value("person"):
            entries = entries.filter(actor_name__icontains=person)
        if channel := self.value("channel"):
            entries = entries.filter(_of_channel(channel))
        if first := self.value("first"):
            entries = entries.filter(created_at__gte=start_of(first, self.zone))
        if last := self.value("last"):
            entries = entries.filter(created_at__lt=end_of(last, self.zone))
        return entries


def _of_channel(text: str) -> Q:
    """Return the condition that text is part of the channel's name, or its whole id."""
    wanted = Q(channel__name__icontains=text)
    try:
        return wanted | Q(channel_id=uuid.UUID(text))
    except ValueError:
        return wanted


@member_page()
def audit_log(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the latest entries first. Older pages continue by id, so nothing must be counted."""
    own = AuditEntry.objects.filter(account=member.account)
    form = AuditFilters(request.GET, account=member.account)
    form.is_valid()
    form.offer(own)
    entries = form.filter(own).select_related("channel")
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) < 19:
        entries = entries.filter(id__lt=int(before))
    found = list(entries.order_by("-id")[: ENTRIES_PER_PAGE + 1])
    shown = found[:ENTRIES_PER_PAGE]
    return render_page(
        request,
        member,
        "audit_log.html",
        title=_("Audit log"),
        entries=[describe(entry, form.zone) for entry in shown],
        form=form,
        is_first=not before,
        first_query=form.query(),
        older_query=form.query(before=str(shown[-1].id)) if len(found) > len(shown) else "",
    )


def describe(entry: AuditEntry, zone: str) -> dict[str, Any]:
    """Return an entry as the page shows it, with times of a time zone."""
    return {
        "entry": entry,
        "words": words_of(entry.action),
        "changes": [
            (
                words_of_field(field),
                _shown(field, before, zone) if before not in (None, "") else "",
                _shown(field, after, zone),
            )
            for field, (before, after) in entry.changes.items()
        ],
    }


def _shown(field: str, value: Any, zone: str) -> str:
    if value is None or value == "":
        return _("nothing")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return _moment(value, zone) or words_of_value(field, value)


def _moment(value: Any, zone: str) -> str:
    """Return a stored time as people of the zone write it, or '' if the value is not a time."""
    try:
        moment = datetime.fromisoformat(value) if len(value) > len("2026-11-24") else None
    except (TypeError, ValueError):
        return ""
    if moment is None or moment.tzinfo is None:
        return ""
    local = moment.astimezone(zone_of(zone))
    return f"{dates.show(local, 'j M Y, H:i:s')} {zone}"


# --- Downloads ----------------------------------------------------------------------------------

_COLUMNS = (
    "created_at_utc", "person", "address", "action", "target", "channel", "channel_id", "changes",
)  # fmt: skip


@member_page()
def export(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Send every entry that the filters find, newest first."""
    form = AuditFilters(request.GET, account=member.account)
    if not form.is_valid():
        raise Http404
    pieces = csv_of(form.filter(AuditEntry.objects.filter(account=member.account)))
    return download(pieces, name="audit-log.csv", content_type="text/csv")


def csv_of(entries: QuerySet[AuditEntry]) -> Iterator[str]:
    """Yield the entries as a CSV file, newest first, reading them in pieces."""
    return lines(_COLUMNS, _csv_rows(entries.select_related("channel").order_by("-id")))


def _csv_rows(entries: QuerySet[AuditEntry]) -> Iterator[tuple[Any, ...]]:
    def read(last: AuditEntry | None) -> list[AuditEntry]:
        older = entries if last is None else entries.filter(id__lt=last.id)
        return list(older[:ENTRIES_A_READ])

    for piece in db.read_in_pieces(read, size=ENTRIES_A_READ):
        for entry in piece:
            yield (
                f"{entry.created_at:%Y-%m-%d %H:%M:%S}",
                entry.actor_name,
                entry.address,
                entry.action,
                entry.target,
                entry.channel.name if entry.channel else "",
                str(entry.channel_id or ""),
                json.dumps(entry.changes, ensure_ascii=False) if entry.changes else "",
            )


urlpatterns = [
    path("audit-log/", audit_log, name="audit_log"),
    path("audit-log/export.csv", export, name="audit_log_csv"),
]

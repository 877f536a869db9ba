"""The audit log of an account: who did what, and when, with the values before and after.

Filtered by action, person, channel and days; also as CSV.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels.models import Account, AuditEntry
from common import db
from common.days import end_of, start_of
from common.pages import dates
from common.pages.forms import DayField, PlainForm
from common.pages.requests import read_term
from common.pages.spreadsheets import lines
from dashboard.console.access import Member, member_page
from dashboard.console.audit_words import words_of, words_of_field, words_of_value
from dashboard.console.downloads import download
from dashboard.console.filters import DAY, set_zone
from dashboard.console.pages import render_page

ENTRIES_PER_PAGE = 50
# The page offers the actions of only this many latest entries, to avoid reading the whole log.
ENTRIES_LOOKED_THROUGH = 2_000
ENTRIES_A_READ = 500


class DaysForm(PlainForm):
    """The days to show, of the account's time zone. Empty ones do not filter."""

    first = DayField(required=False, label=gettext_lazy("From ({zone})"), widget=DAY)
    last = DayField(required=False, label=gettext_lazy("To, included ({zone})"), widget=DAY)

    def __init__(self, data: Any, *, account: Account) -> None:
        super().__init__(data, label_suffix="")
        self.zone = account.time_zone
        set_zone(self, self.zone)

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        first, last = found.get("first"), found.get("last")
        if first and last and last < first:
            self.add_error("last", _("The last day is before the first: choose a later one."))
        return found

    def filter(self, entries: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        """Return the entries of the chosen days. A day that is in error does not filter."""
        found = getattr(self, "cleaned_data", {})
        if found.get("first"):
            entries = entries.filter(created_at__gte=start_of(found["first"], self.zone))
        if found.get("last"):
            entries = entries.filter(created_at__lt=end_of(found["last"], self.zone))
        return entries


@member_page()
def audit_log(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the latest entries first. Older pages continue by id, so nothing must be counted."""
    own = AuditEntry.objects.filter(account=member.account)
    filters, days = _read_filters(request, member.account)
    entries = days.filter(filter_entries(own, **filters)).select_related("channel")
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) < 19:
        entries = entries.filter(id__lt=int(before))
    found = list(entries.order_by("-id")[: ENTRIES_PER_PAGE + 1])
    shown = found[:ENTRIES_PER_PAGE]
    chosen = {name: days[name].value() for name in days.fields}
    given = {name: value for name, value in {**filters, **chosen}.items() if value}
    return render_page(
        request,
        member,
        "audit_log.html",
        title=_("Audit log"),
        entries=[describe(entry) for entry in shown],
        actions=_actions(own, filters["action"]),
        filters=filters,
        days=days,
        is_filtered=bool(given),
        is_first=not before,
        first_query=urlencode(given),
        older_query=urlencode(given | {"before": shown[-1].id}) if len(found) > len(shown) else "",
    )


def _read_filters(request: HttpRequest, account: Account) -> tuple[dict[str, str], DaysForm]:
    filters = {name: read_term(request, name, most=254) for name in ("action", "person", "channel")}
    days = DaysForm(request.GET, account=account)
    days.is_valid()
    return filters, days


def filter_entries(
    entries: QuerySet[AuditEntry], *, action: str, person: str, channel: str
) -> QuerySet[AuditEntry]:
    """Filter entries. `channel` is part of a name or a whole id."""
    if action:
        entries = entries.filter(action=action)
    if person:
        entries = entries.filter(actor_name__icontains=person)
    if channel:
        wanted = Q(channel__name__icontains=channel)
        try:
            wanted |= Q(channel_id=uuid.UUID(channel))
        except ValueError:
            pass
        entries = entries.filter(wanted)
    return entries


def _actions(own: QuerySet[AuditEntry], chosen: str) -> list[tuple[str, str]]:
    latest = own.order_by("-id").values_list("action", flat=True)[:ENTRIES_LOOKED_THROUGH]
    known = set(latest) | ({chosen} if chosen else set())
    return [(action, words_of(action)) for action in sorted(known)]


def describe(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as the page shows it."""
    return {
        "entry": entry,
        "words": words_of(entry.action),
        "changes": [
            (
                words_of_field(field),
                _shown(field, before) if before not in (None, "") else "",
                _shown(field, after),
            )
            for field, (before, after) in entry.changes.items()
        ],
    }


def _shown(field: str, value: Any) -> str:
    if value is None or value == "":
        return _("nothing")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return _moment(value) or words_of_value(field, value)


def _moment(value: Any) -> str:
    """Return a stored time for people, or '' if the value is not a time."""
    try:
        moment = datetime.fromisoformat(value) if len(value) > len("2026-11-24") else None
    except (TypeError, ValueError):
        return ""
    if moment is None or moment.tzinfo is None:
        return ""
    return _("%(time)s UTC") % {"time": dates.show(moment, "j M Y, H:i:s")}


# --- Downloads ----------------------------------------------------------------------------------

_COLUMNS = (
    "created_at_utc", "person", "address", "action", "target", "channel", "channel_id", "changes",
)  # fmt: skip


@member_page()
def export(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Send every entry that the filters find, newest first."""
    filters, days = _read_filters(request, member.account)
    if not days.is_valid():
        raise Http404
    own = AuditEntry.objects.filter(account=member.account)
    pieces = csv_of(days.filter(filter_entries(own, **filters)))
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

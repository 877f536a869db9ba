"""The audit log of an account: who did what, and when, with the values before and after."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.http import urlencode

from channels.models import AuditEntry
from common.pages.requests import read_term
from dashboard.console.access import Member, member_page
from dashboard.console.pages import render_page

ENTRIES_PER_PAGE = 50
# The page offers the actions of only this many latest entries, to avoid reading the whole log.
ENTRIES_LOOKED_THROUGH = 2_000


@member_page()
def audit_log(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the latest entries first. Older pages continue by id, so nothing must be counted."""
    filters = {name: read_term(request, name, most=254) for name in ("action", "person", "channel")}
    own = AuditEntry.objects.filter(account=member.account)
    entries = filter_entries(own, **filters).select_related("channel")
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) < 19:
        entries = entries.filter(id__lt=int(before))
    found = list(entries.order_by("-id")[: ENTRIES_PER_PAGE + 1])
    shown = found[:ENTRIES_PER_PAGE]
    given = {name: value for name, value in filters.items() if value}
    return render_page(
        request,
        member,
        "audit_log.html",
        title="Audit log",
        entries=[describe(entry) for entry in shown],
        actions=_actions(own, filters["action"]),
        filters=filters,
        is_filtered=bool(given),
        is_first=not before,
        first_query=urlencode(given),
        older_query=urlencode(given | {"before": shown[-1].id}) if len(found) > len(shown) else "",
    )


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


# The code has an older name for saved replies. The service and the admin spell it differently.
_SAVED_REPLY = ("fixed_answer", "fixedanswer")


def words_of(action: str) -> str:
    """Return “Saved reply added” for fixed_answer.added."""
    subject, _, what = action.partition(".")
    subject = "saved reply" if subject in _SAVED_REPLY else subject
    return f"{subject} {what}".replace("_", " ").strip().capitalize()


def describe(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as the page shows it."""
    return {
        "entry": entry,
        "words": words_of(entry.action),
        "changes": [
            (field.replace("_", " "), _shown(before), _shown(after))
            for field, (before, after) in entry.changes.items()
        ],
    }


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _moment(value) or str(value)


def _moment(value: Any) -> str:
    """Return a stored time for people, or '' if the value is not a time."""
    try:
        moment = datetime.fromisoformat(value) if len(value) > len("2026-11-24") else None
    except (TypeError, ValueError):
        return ""
    return f"{moment:%-d %b %Y, %H:%M:%S} UTC" if moment and moment.tzinfo else ""


urlpatterns = [path("audit-log/", audit_log, name="audit_log")]

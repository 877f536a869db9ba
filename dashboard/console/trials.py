"""What test keys did, in words, for pages that show only live traffic and would look empty."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from common.pages.numbers import local_number
from conversations.archive import sessions
from conversations.archive.sessions import Search
from conversations.usage import reports
from conversations.usage.reports import Scope

# A larger number would add nothing: people with that many conversations know where to look.
MOST_COUNTED = 100


class Trials(NamedTuple):
    """A few words, or '' if test keys did nothing, and the console page that shows it."""

    words: str
    page: str


def find_trials(scope: Scope) -> Trials:
    """Return what test keys did in a scope: conversations or, if there are none, requests (/v1)."""
    words = ""
    if not (scope.model_id or scope.page_url):  # conversations cannot be filtered by these
        words = describe_conversations(
            Search(
                account_id=scope.account_id,
                channel_id=scope.channel_id,
                starts_at=scope.starts_at,
                ends_at=scope.ends_at,
            )
        )
    if words:
        return Trials(words, "conversations")
    report = reports.get_report(replace(scope, is_test=True), by_channel=False)
    count = report.total.request_count
    words = ngettext("%(count)s request with test keys", "%(count)s requests with test keys", count)
    return Trials(words % {"count": local_number(count)} if count else "", "usage")


def describe_conversations(search: Search) -> str:
    """Return how many conversations with test keys a search would find, or '' if none."""
    count = sessions.count_sessions(replace(search, is_test=True), most=MOST_COUNTED + 1)
    if count > MOST_COUNTED:
        return _("More than %(count)s conversations with test keys") % {"count": MOST_COUNTED}
    if not count:
        return ""
    words = ngettext(
        "%(count)s conversation with test keys", "%(count)s conversations with test keys", count
    )
    return words % {"count": local_number(count)}

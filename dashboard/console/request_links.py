"""What pages of requests share: names of outcomes, and links from a figure to its requests."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.utils.translation import gettext_lazy

from channels.models import Channel
from conversations.usage import outcomes, request_filter
from conversations.usage.reports import Scope
from dashboard.console.access import Member
from dashboard.console.filters import moment_of
from dashboard.console.navigation import url_within

# The name of each outcome, and the class of its badge.
OUTCOMES = {
    outcomes.ANSWERED: (gettext_lazy("Answered"), "gw-badge-ok"),
    outcomes.SAVED_REPLY: (gettext_lazy("Saved reply"), "gw-badge-accent"),
    request_filter.ERRORS: (gettext_lazy("Errors (failed or refused)"), ""),
    outcomes.FAILED: (gettext_lazy("Failed"), "gw-badge-bad"),
    outcomes.REFUSED: (gettext_lazy("Refused"), "gw-badge-warn"),
    outcomes.REPLAYED: (gettext_lazy("Replayed"), "gw-badge-info"),
}


def log_query(scope: Scope, *, is_whole_page: bool = False, **more: str) -> str:
    """Return the query for the requests of a scope. `more` are other filters of the log."""
    filters = {
        "since": moment_of(scope.starts_at, scope.zone),
        "until": moment_of(scope.ends_at, scope.zone),
        "channel": str(scope.channel_id or ""),
        "model": scope.model_id,
        "page": scope.page_url,
        "whole_page": "on" if is_whole_page else "",
        "traffic": "test" if scope.is_test else "",
        **more,
    }
    return urlencode({name: value for name, value in filters.items() if value})


def log_links(
    member: Member, scope: Scope, *, tab_of: Channel | None = None, **more: Any
) -> dict[str, str]:
    """Return the links of a scope's figures: to all its requests, its replies, its errors.

    They lead to the account's log, or to the log of `tab_of` for figures in a tab of that channel.
    """
    link = f"{url_within(member, tab_of, 'requests')}?{log_query(scope, **more)}"
    return {
        "all": link,
        "answered": f"{link}&outcome=answered",
        "errors": f"{link}&outcome=errors",
    }

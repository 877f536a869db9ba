"""Parts of the staff's first page that it fetches later: traffic, top accounts, and providers."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import totals
from channels import breaker, provider_lists, route_tests
from channels.models import Account, RouteHealth
from common.days import UTC_NAME, day_of, last_days
from common.db.plans import planned_for_values
from common.pages.dates import show as show_date
from common.pages.numbers import local_credits
from conversations.usage import installation
from conversations.usage.reports import Line
from conversations.usage.rows import Coverage, cover_everything
from dashboard import charts
from dashboard.charts import Series, Times
from dashboard.console.usage_words import change_words
from dashboard.staff.pages import render_staff_page, rows_url, staff_page, staff_url

DAYS = 30
TOP_ACCOUNTS = 8
FAILING_SHOWN = 8
# Without a worker that sums them, the most messages that are read within the request.
MOST_UNSUMMED = 200_000
PROVIDERS_STATE = ("channels.view_provider", "channels.view_routehealth")


@staff_page("conversations.view_message")
def activity(request: HttpRequest) -> HttpResponseBase:
    """Show today against yesterday, the last 30 days, and who spends most today."""
    now = timezone.now()
    coverage = cover_everything()
    unsummed_since = _unread_since(coverage, now)
    with planned_for_values():
        figures = {} if unsummed_since else _figures(request, coverage, now)
    return render_staff_page(
        request,
        "activity.html",
        title=_("Activity"),
        now=now,
        days=DAYS,
        unsummed_since=unsummed_since,
        **figures,
    )


def _unread_since(coverage: Coverage, now: datetime) -> datetime | None:
    """Return since when there are too many messages that no worker has summed, or None."""
    starts_at, _ = last_days(now, DAYS)
    since = installation.unsummed_since(coverage, starts_at=starts_at, now=now)
    if since is None or totals.count_messages_since(day_of(since)) <= MOST_UNSUMMED:
        return None
    return since


def _figures(request: HttpRequest, coverage: Coverage, now: datetime) -> dict[str, Any]:
    days = installation.list_days(coverage, now=now, days=DAYS)
    today, yesterday = days[-1], installation.sum_yesterday(coverage, now=now)
    figures: dict[str, Any] = {
        "today": today,
        "yesterday": yesterday,
        "changes": {
            "requests": change_words(today.request_count, yesterday.request_count),
            "credits": change_words(today.charged_microcredits, yesterday.charged_microcredits),
        },
        "charts": draw_days(days),
        "answered_url": rows_url(
            request, "conversations", "message", since="today", role__exact="assistant",
            is_test__exact="0",
        ),
        "failed_url": rows_url(
            request, "conversations", "failedrequest", since="today", is_test__exact="0"
        ),
    }  # fmt: skip
    if request.user.has_perm("channels.view_account"):
        figures["top"] = _top_accounts(coverage, now)
    return figures


def draw_days(days: list[Line], zone: str = UTC_NAME) -> list[dict[str, Any]]:
    """Return the charts of requests and credits by day. Today, the last day, is not over."""
    dates = [day_of(line.key, zone) for line in days]
    times = Times([show_date(one, "j M") for one in dates], is_running=True)
    requests = [
        Series(_("Answered"), [line.reply_count for line in days]),
        Series(_("Errors"), [line.error_count for line in days], "gw-series-bad"),
    ]
    charged = [Series(_("Credits"), [line.charged_microcredits for line in days], "gw-series-2")]
    return [
        {
            "title": _("Requests"),
            "legend": charts.legend(requests),
            "is_flat": not any(line.request_count for line in days),
            "drawing": charts.bar_chart(
                times, requests, title=_("Requests by day (%(zone)s)") % {"zone": zone}
            ),
        },
        {
            "title": _("Credits charged"),
            "is_flat": not any(line.charged_microcredits for line in days),
            "drawing": charts.bar_chart(
                times,
                charged,
                title=_("Credits charged by day (%(zone)s)") % {"zone": zone},
                show=lambda value: local_credits(round(value)),
            ),
        },
    ]


def _top_accounts(coverage: Coverage, now: datetime) -> list[dict[str, Any]]:
    lines = installation.list_top_accounts(coverage, now=now, most=TOP_ACCOUNTS)
    names = Account.objects.in_bulk([line.key for line in lines])
    return [
        {
            "account": names[line.key],
            "line": line,
            "url": staff_url("channels_account_change", line.key),
        }
        for line in lines
        if line.key in names
    ]


@staff_page(*PROVIDERS_STATE)
def providers(request: HttpRequest) -> HttpResponseBase:
    """Show the providers in use, and the routes that failed recently. Asks no provider."""
    now = timezone.now()
    failing = list(RouteHealth.objects.order_by("-failed_at"))
    counts = Counter(row.provider_name for row in failing)
    return render_staff_page(
        request,
        "providers_state.html",
        title=_("Providers"),
        providers=[
            {
                "name": source.name,
                "failing_count": counts[source.name],
                "has_key": source.has_key,
            }
            for source in provider_lists.list_sources()
        ],
        failing=[
            {
                "row": row,
                "state": breaker.state_of(row, now=now),
                "words": route_tests.explain(row.reason),
            }
            for row in failing[:FAILING_SHOWN]
        ],
        more=max(0, len(failing) - FAILING_SHOWN),
    )

"""Usage of an account: charts, the same figures as tables, and both as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import charges as billing_charges
from billing.balance import get_balance, get_runway
from channels.models import Account, Channel
from common.days import (
    ONE_DAY,
    day_of,
    end_of,
    first_of_month,
    next_month,
    start_of,
    zone_of,
)  # fmt: skip
from common.db.plans import snapshot
from common.money import format_credits
from common.pages.numbers import local_credits
from common.pages.spreadsheets import lines
from conversations.usage import reports
from conversations.usage import top_pages as top_pages_of
from conversations.usage.reports import Line, Scope
from conversations.usage.rows import cover_account
from dashboard.console.access import Member, channel_page, member_page
from dashboard.console.downloads import download
from dashboard.console.filters import RangedForm, last_period, model_choices, read_model_names
from dashboard.console.navigation import url_within
from dashboard.console.pages import render_page
from dashboard.console.request_links import log_links, log_query
from dashboard.console.runway import pace_words
from dashboard.console.trials import find_trials
from dashboard.console.usage_charts import draw_charts
from dashboard.console.usage_words import (
    changes_of,
    words_of_period_before,
)

# Lines of channels. The filter finds the others.
CHANNELS_SHOWN = 25


class UsageForm(RangedForm):
    """The filters of the page. Empty ones do not filter."""

    model = forms.ChoiceField(required=False, label=gettext_lazy("Model"))
    page = forms.CharField(
        required=False, max_length=2048, label=gettext_lazy("Page begins with"), strip=True
    )
    field_order = ("range", "first", "last", "channel", "model", "page", "traffic")

    def __init__(
        self, data: QueryDict, *, account: Account, channel: Channel | None = None
    ) -> None:
        super().__init__(data, account=account, channel=channel)
        self.model_names = read_model_names()
        choices = model_choices(self.model_names, data.get("model", ""))
        self.fields["model"].choices = choices  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if cleaned.get("range") == "own":
            for name in ("first", "last"):
                if not cleaned.get(name) and name not in self.errors:
                    self.add_error(name, _("Choose a day."))
        return cleaned

    @property
    def chosen_range(self) -> str:
        """The period, or the last seven days if it is missing or invalid."""
        chosen = self.value("range") or "7d"
        is_known = chosen != "own" or (self.value("first") and self.value("last"))
        return chosen if is_known else "7d"

    def period(self, now: datetime) -> tuple[datetime, datetime]:
        if self.chosen_range == "own":
            first, last = self.value("first"), self.value("last")
            return start_of(first, self.zone), end_of(last, self.zone)
        return last_period(self.chosen_range, now, self.zone)

    def scope(self, account: Account) -> Scope:
        starts_at, ends_at = self.period(timezone.now())
        return Scope(
            account_id=account.id,
            starts_at=starts_at,
            ends_at=ends_at,
            is_by_hour=self.chosen_range == "24h",
            is_test=self.is_test,
            channel_id=self.channel_id,
            model_id=self.value("model") or "",
            page_url=self.value("page") or "",
            zone=self.zone,
        )


@member_page()
def usage(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the figures of a period."""
    return _render_usage(request, member)


@channel_page()
def channel_usage(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the figures of one channel, as a tab of it."""
    return _render_usage(request, member, channel)


def _render_usage(
    request: HttpRequest, member: Member, channel: Channel | None = None
) -> HttpResponse:
    form = UsageForm(request.GET, account=member.account, channel=channel)
    form.is_valid()
    scope = form.scope(member.account)
    log = partial(log_links, member, tab_of=channel)
    now = timezone.now()
    # Without a snapshot, an answer in between would be in the ledger but not among the replies.
    with snapshot():
        coverage = cover_account(scope.account_id, scope.channel_id)
        report = reports.get_report(scope, coverage, busiest=CHANNELS_SHOWN)
        before = reports.get_report(scope.before(now), coverage, by_channel=False).total
        comparison = reports.compare_with_ledger(scope, report.total)
    return render_page(
        request,
        member,
        "usage.html",
        title=_("Usage"),
        channel=channel,
        usage_url=url_within(member, channel, "usage"),
        pages_url=url_within(member, channel, "usage_pages"),
        form=form,
        scope=scope,
        last_moment=scope.ends_at - timedelta(seconds=1),
        ranges=_range_tabs(form, scope),
        query=form.query(),
        report=report,
        total={"line": report.total, "links": log(scope)},
        changes=changes_of(report.total, before),
        period_before=words_of_period_before(scope, now),
        lines=[{"line": line, "links": log(scope.part(line.key))} for line in report.times],
        charts=draw_charts(scope, report, log, now, form.model_names)
        if report.total.request_count
        else [],
        channel_lines=[
            _linked(form, "channel", line) | {"links": log(replace(scope, channel_id=line.key))}
            for line in report.channels
        ],
        channel_count=report.channel_count,
        model_lines=[
            _linked(form, "model", line)
            | {"links": log(replace(scope, model_id=line.key)) if line.key else {}}
            for line in report.models
        ],
        errors=[(line, log(scope, code=line.key)["all"]) for line in report.errors],
        requests_csv=f"{member.url('requests_csv')}?{log_query(scope)}",
        comparison=comparison,
        drafts_url=f"{member.url('drafts')}?{log_query(scope)}",
        trials=None if scope.is_test or report.total.request_count else find_trials(scope),
        test_query=form.query(traffic="test"),
    )


def _range_tabs(form: UsageForm, scope: Scope) -> list[tuple[str, str, str]]:
    ends = (scope.starts_at, scope.ends_at - timedelta(seconds=1))
    return form.range_tabs(*(str(day_of(moment, scope.zone)) for moment in ends))


@member_page()
def top_pages(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the pages with the most replies. The page fetches this later, because it is slower."""
    return _render_top_pages(request, member)


@channel_page()
def channel_top_pages(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the pages with the most replies of one channel."""
    return _render_top_pages(request, member, channel)


def _render_top_pages(
    request: HttpRequest, member: Member, channel: Channel | None = None
) -> HttpResponse:
    form = UsageForm(request.GET, account=member.account, channel=channel)
    form.is_valid()
    scope = form.scope(member.account)
    pages = top_pages_of.list_top_pages(scope)
    counted = replace(scope, starts_at=pages.since or scope.starts_at)
    log = partial(log_links, member, tab_of=channel, is_whole_page=True)
    linked = [
        _linked(form, "page", line) | {"links": log(replace(counted, page_url=line.key))}
        for line in pages.lines
    ]
    return render_page(
        request, member, "usage_pages.html", title=_("Top pages"), channel=channel,
        page_lines=linked, since=pages.since, query=form.query(),
        usage_url=url_within(member, channel, "usage"),
    )  # fmt: skip


@member_page()
def month(request: HttpRequest, member: Member) -> HttpResponse:
    """Show what the month has cost so far, and may cost. The page fetches this later."""
    now, zone = timezone.now(), member.account.time_zone
    first = first_of_month(day_of(now, zone))
    following = next_month(first)
    spent = billing_charges.sum_charges(
        account_id=member.account.id, starts_at=start_of(first, zone)
    )
    balance = get_balance(account_id=member.account.id, now=now, zone=zone)
    runway = get_runway(balance=balance, now=now)
    left = start_of(following, zone) - now
    return render_page(
        request, member, "usage_month.html", title=_("This month"), balance=balance,
        spent=local_credits(spent), month=first, last_day=following - ONE_DAY,
        pace=pace_words(runway),
        forecast=local_credits(_rounded(spent + runway.spent_microcredits * (left / runway.span))),
        has_pace=runway.spent_microcredits > 0,
    )  # fmt: skip


def _rounded(microcredits: float) -> int:
    """Round to two digits: a forecast is no more precise."""
    if microcredits < 1:
        return 0
    unit = 10 ** max(0, math.floor(math.log10(microcredits)) - 1)
    return int(round(microcredits / unit) * unit)


def _linked(form: UsageForm, name: str, line: Line) -> dict[str, Any]:
    """Return a line with its name, a model's id, and the query that filters by it."""
    label, title = line.key, ""
    if name == "channel":
        label = form.channel_names.get(line.key, "?")
    elif name == "model":
        label, title = form.model_names.get(line.key, line.key), line.key
    return {
        "line": line,
        "label": label or _("(unknown)"),
        "title": title,
        "query": form.query(**{name: str(line.key)}),
    }


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


# --- Downloads ----------------------------------------------------------------------------------


@member_page()
def export(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Send the figures by hour or day, with the page's own filters."""
    form = UsageForm(request.GET, account=member.account)
    if not form.is_valid():
        raise Http404
    scope = form.scope(member.account)
    step = "hours" if scope.is_by_hour else "days"
    name = f"usage-{step}-{day_of(scope.starts_at, scope.zone)}.csv"
    return download(_days_csv(scope), name=name, content_type="text/csv")


_DAY_COLUMNS = (
    "begins_at_utc", "begins_at_local", "requests", "answered", "errors", "input_tokens",
    "output_tokens", "credits", "p50_seconds", "p95_seconds",
)  # fmt: skip


def _days_csv(scope: Scope) -> Iterator[str]:
    report = reports.get_report(scope, by_channel=False)
    return lines(_DAY_COLUMNS, (_day_row(scope, line) for line in report.times))


def _day_row(scope: Scope, line: Line) -> tuple[Any, ...]:
    local = line.key.astimezone(zone_of(scope.zone))
    return (
        f"{line.key:%Y-%m-%d %H:%M}",
        f"{local:%Y-%m-%d %H:%M}",
        line.request_count,
        line.reply_count,
        line.error_count,
        line.input_tokens,
        line.output_tokens,
        format_credits(line.charged_microcredits),
        _seconds(line.p50_ms),
        _seconds(line.p95_ms),
    )


urlpatterns = [
    path("usage/", usage, name="usage"),
    path("usage/month/", month, name="usage_month"),
    path("usage/pages/", top_pages, name="usage_pages"),
    path("usage/days.csv", export, name="usage_days"),
    path("channels/<uuid:channel_id>/usage/", channel_usage, name="channel_usage"),
    path("channels/<uuid:channel_id>/usage/pages/", channel_top_pages, name="channel_usage_pages"),
]

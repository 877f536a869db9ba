"""The first page: the last 30 days, what needs attention, the balance, and the channels."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from django.db.models import Count, Exists, OuterRef, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import spend_caps
from billing.balance import get_balance, get_runway
from billing.models import SpendCap
from billing.spend_caps import Spending
from channels import key_uses, model_ends
from channels.models import Channel
from common.days import last_days
from common.pages.numbers import local_credits
from common.pages.requests import post_only
from conversations.usage import reports
from conversations.usage.reports import Scope
from conversations.usage.rows import cover_account
from dashboard import charts
from dashboard.charts import Series, Times
from dashboard.console import onboarding
from dashboard.console.access import Member, Role, member_page
from dashboard.console.channel_list import list_context, recent_scope
from dashboard.console.pages import render_page
from dashboard.console.request_links import log_links
from dashboard.console.runway import first_end, pace_words, runway_words
from dashboard.console.trials import find_trials
from dashboard.console.usage_words import changes_of, label_of

# Spend caps, and channels over their limit, named at the top.
MOST_CAPS, MOST_REFUSING = 5, 3
MONTH_DAYS = 30


@member_page()
def overview(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the account at a glance."""
    now = timezone.now()
    announced = now.date() + model_ends.NOTICE
    ending = Q(model__ends_on__lte=announced) | Q(fallback_model__ends_on__lte=announced)
    counts = Channel.objects.filter(account=member.account).aggregate(
        all=Count("id"),
        off=Count("id", filter=Q(is_enabled=False)),
        ending=Count("id", filter=ending),
        capped=Count("id", filter=Exists(SpendCap.objects.filter(channel=OuterRef("id")))),
    )
    zone = member.account.time_zone
    balance = get_balance(account_id=member.account.id, now=now, zone=zone)
    runway = get_runway(balance=balance, now=now)
    listed = list_context(
        request, member, now, list_url=member.url("index"), channel_count=counts["all"]
    )
    is_whole = not listed["listing"].is_filtered and listed["page"].number == 1
    return render_page(
        request,
        member,
        "overview.html",
        title=_("Overview"),
        **listed,
        off_count=counts["off"],
        ending_count=counts["ending"],
        caps=_list_caps(member, now) if counts["capped"] else [],
        refusing=key_uses.list_refused(member.account, now=now, most=MOST_REFUSING),
        balance=balance,
        held=local_credits(balance.held),
        threshold=local_credits(balance.low_balance),
        spent=local_credits(runway.spent_microcredits),
        spent_links=log_links(member, recent_scope(member, now)),
        pace=pace_words(runway),
        runway=runway_words(balance, runway, now, zone),
        ends_at=first_end(balance, runway, zone),
        # Whoever searches for a channel is past the first steps.
        checklist=onboarding.find_checklist(
            member, channel=listed["cards"][0].channel if listed["cards"] else None
        )
        if is_whole and member.can_edit
        else None,
    )


def _list_caps(member: Member, now: datetime) -> list[tuple[SpendCap, Spending]]:
    return spend_caps.list_half_used(account_id=member.account.id, now=now)[:MOST_CAPS]


@member_page()
def month(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the last 30 days in one chart. The overview fetches this later."""
    now, zone = timezone.now(), member.account.time_zone
    starts_at, ends_at = last_days(now, MONTH_DAYS, zone)
    scope = Scope(account_id=member.account.id, starts_at=starts_at, ends_at=ends_at, zone=zone)
    coverage = cover_account(scope.account_id)
    report = reports.get_report(scope, coverage, by_channel=False)
    before = reports.get_report(scope.before(now), coverage, by_channel=False).total
    log = partial(log_links, member)
    days = [log(scope.part(line.key)) for line in report.times]
    series = [
        Series(
            _("Answered"),
            [line.reply_count for line in report.times],
            links=[day["answered"] for day in days],
        ),
        Series(
            _("Errors"),
            [line.error_count for line in report.times],
            "gw-series-bad",
            [day["errors"] for day in days],
        ),
    ]
    labels = [label_of(scope, line) for line in report.times]
    times = Times(labels, [day["all"] for day in days], is_running=True)
    title = _("Requests by day (%(zone)s); Usage has the figures as a table") % {"zone": zone}
    return render_page(
        request,
        member,
        "overview_month.html",
        title=_("Last 30 days"),
        total=report.total,
        links=log(scope),
        changes=changes_of(report.total, before),
        drawing=charts.bar_chart(times, series, title=title),
        legend=charts.legend(series),
        trials=None if report.total.request_count else find_trials(scope),
    )


@member_page(needs=Role.EDITOR)
@post_only
def dismiss_checklist(request: HttpRequest, member: Member) -> HttpResponse:
    """Dismiss the checklist for everybody in the account."""
    onboarding.dismiss(member)
    return redirect(member.url("index"))


urlpatterns = [
    path("", overview, name="index"),
    path("overview/month/", month, name="overview_month"),
    path("checklist/dismiss/", dismiss_checklist, name="dismiss_checklist"),
]

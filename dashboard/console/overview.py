"""The first page: the balance, and a card for each channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.core.paginator import Paginator
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from billing import spend_caps
from billing.balance import Balance, Runway, get_balance, get_runway
from billing.models import SpendCap
from billing.spend_caps import Spending
from channels import channel_changes, model_ends, usable_keys
from channels.models import ApiKey, Channel
from channels.search import named_like
from common.days import RECENT_DAYS, UTC_NAME, day_of, last_days
from common.money import show_credits
from common.pages.requests import post_only, read_term
from conversations.usage.activity import Activity, last_used, list_activity
from conversations.usage.reports import Scope
from dashboard.charts import week_sparkline
from dashboard.console import onboarding
from dashboard.console.access import Member, Role, channel_page, member_page
from dashboard.console.pages import render_page
from dashboard.console.request_links import log_links
from dashboard.console.trials import Trials, find_trials

CARDS_PER_PAGE = 24
# Spend caps named at the top.
MOST_CAPS = 5
SORTS = {"recent": "Recently used", "name": "Name"}


@dataclass(frozen=True)
class Card:
    """The content of one channel's card."""

    channel: Channel
    activity: Activity
    live_key: ApiKey | None
    # The most answers a day on any card of the page. All charts share this scale.
    most_a_day: int
    # Links to the requests behind the figures: those of each day, oldest first.
    links: tuple[dict[str, str], ...]

    @property
    def links_of_today(self) -> dict[str, str]:
        return self.links[-1]

    @cached_property
    def credits_today(self) -> str:
        return show_credits(self.activity.charged_today_microcredits)

    @cached_property
    def chart(self) -> SafeString:
        links = [day["answered"] for day in self.links]
        return week_sparkline(self.activity.requests_by_day, most=self.most_a_day, links=links)


@member_page()
def overview(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the account at a glance."""
    now = timezone.now()
    own = Channel.objects.filter(account=member.account)
    ending = Q(model__ends_on__lte=now.date() + model_ends.NOTICE)
    counts = own.aggregate(
        all=Count("id"),
        off=Count("id", filter=Q(is_enabled=False)),
        ending=Count("id", filter=ending),
        capped=Count("id", filter=Exists(SpendCap.objects.filter(channel=OuterRef("id")))),
    )
    balance = get_balance(account_id=member.account.id, now=now)
    zone = member.account.time_zone
    runway = get_runway(account_id=member.account.id, balance=balance, now=now, zone=zone)
    search, sort = read_term(request, "q", most=120), read_sort(request)
    page = Paginator(_listed(own, search, sort), CARDS_PER_PAGE).get_page(request.GET.get("page"))
    cards = make_cards(member, list(page), now)
    return render_page(
        request,
        member,
        "overview.html",
        title="Overview",
        cards=cards,
        trials=None if search or page.number > 1 else _find_trials(member, cards, now),
        page=page,
        query=urlencode({"q": search, "sort": sort}),
        search=search,
        sort=sort,
        sorts=SORTS,
        channel_count=counts["all"],
        off_count=counts["off"],
        ending_count=counts["ending"],
        caps=_list_caps(member, now) if counts["capped"] else [],
        balance=balance,
        held=show_credits(balance.held),
        threshold=show_credits(balance.low_balance),
        spent=show_credits(runway.spent_microcredits),
        spent_links=log_links(member, _recent(member, now)),
        pace=pace_words(runway),
        runway=runway_words(balance, runway, now, zone),
        ends_at=_first_end(balance, runway, zone),
        checklist=onboarding.find_checklist(member, channel_count=counts["all"]),
    )


def _list_caps(member: Member, now: datetime) -> list[tuple[SpendCap, Spending]]:
    return spend_caps.list_half_used(account_id=member.account.id, now=now)[:MOST_CAPS]


def _find_trials(member: Member, cards: list[Card], now: datetime) -> Trials | None:
    """Return what test keys did in the days of the charts, if the charts are empty."""
    if not cards or any(any(card.activity.requests_by_day) for card in cards):
        return None
    return find_trials(_recent(member, now))


def _recent(member: Member, now: datetime) -> Scope:
    """Return the requests of the last days."""
    zone = member.account.time_zone
    starts_at, ends_at = last_days(now, zone=zone)
    return Scope(account_id=member.account.id, starts_at=starts_at, ends_at=ends_at, zone=zone)


def read_sort(request: HttpRequest) -> str:
    sort = request.GET.get("sort", "")
    return sort if sort in SORTS else "recent"


def _listed(own: QuerySet[Channel], search: str, sort: str) -> QuerySet[Channel]:
    channels = own.select_related("model__successor").defer("system_prompt", "fallback_replies")
    channels = channels.annotate(last_used_at=last_used())
    if search:
        channels = channels.filter(named_like(search))
    if sort == "name":
        return channels.order_by("name", "id")
    return channels.order_by(F("last_used_at").desc(nulls_last=True), "-created_at", "id")


def make_cards(member: Member, channels: list[Channel], now: datetime) -> list[Card]:
    """Return a card for each channel, with three queries for all of them."""
    ids = [channel.id for channel in channels]
    activity = list_activity(channel_ids=ids, now=now, zone=member.account.time_zone)
    live_keys = usable_keys.list_live_keys(channel_ids=ids, now=now)
    most = max((count for one in activity.values() for count in one.requests_by_day), default=0)
    recent = _recent(member, now)
    return [
        Card(
            channel,
            activity[channel.id],
            live_keys.get(channel.id),
            most,
            _links_by_day(member, replace(recent, channel_id=channel.id)),
        )
        for channel in channels
    ]


def _links_by_day(member: Member, scope: Scope) -> tuple[dict[str, str], ...]:
    return tuple(log_links(member, scope.part(day)) for day in scope.times())


# --- Words for the balance ------------------------------------------------------------------------


def runway_words(balance: Balance, runway: Runway, now: datetime, zone: str = UTC_NAME) -> str:
    """Say how long the credits last."""
    if not balance.entry_count:
        return "No credits have been granted yet."
    if balance.is_exhausted:
        return "Used up: channels answer “credits_exhausted” until credits are added."
    if not runway.spent_microcredits:
        return f"Nothing was spent in the last {RECENT_DAYS} days."
    if runway.until is None:
        return f"Lasts for more than five years at {pace_words(runway)}."
    today = day_of(now, zone)
    if runway.until == today:
        return f"Lasts until later today at {pace_words(runway)}."
    day = f"{runway.until.day} {runway.until:%B}"
    if runway.until.year != today.year:
        day += f" {runway.until.year}"
    return f"Lasts until about {day} at {pace_words(runway)}."


def pace_words(runway: Runway) -> str:
    """Name the period that the pace was measured in."""
    if runway.is_whole:
        return f"the pace of the last {RECENT_DAYS} days"
    hours = max(1, round(runway.span / timedelta(hours=1)))
    if hours >= 48:
        return f"the pace of the last {round(hours / 24)} days"
    return f"the pace of the last {hours} hours" if hours > 1 else "the pace of the last hour"


def _first_end(balance: Balance, runway: Runway, zone: str) -> datetime | None:
    """Return when the first credits expire, if that is before they are spent."""
    end = balance.next_expiry_at
    if end is None or balance.available <= 0:
        return None
    return end if runway.until is None or day_of(end, zone) < runway.until else None


# --- Actions --------------------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
@post_only
def switch_channel(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Switch a channel on or off, as the form says. Repeating it changes nothing."""
    wanted = request.POST.get("is_enabled")
    if wanted not in ("on", "off"):
        return HttpResponse("is_enabled must be “on” or “off”.", status=400)
    channel = channel_changes.update_channel(
        channel_id=str(channel.id), actor=member.actor, is_enabled=wanted == "on"
    )
    if request.accepts("text/html"):
        # The switch is on the overview and in the channel's settings.
        if "settings" in request.POST:
            return redirect("console:channel", channel.id)
        return redirect(member.url("index"))
    return JsonResponse({"is_enabled": channel.is_enabled})


@member_page(needs=Role.EDITOR)
@post_only
def dismiss_checklist(request: HttpRequest, member: Member) -> HttpResponse:
    """Dismiss the checklist for everybody in the account."""
    onboarding.dismiss(member)
    return redirect(member.url("index"))


urlpatterns = [
    path("", overview, name="index"),
    path("checklist/dismiss/", dismiss_checklist, name="dismiss_checklist"),
    path("channels/<uuid:channel_id>/switch/", switch_channel, name="switch_channel"),
]

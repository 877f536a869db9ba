"""The account's channels: as cards if they are few, else as a table that can be filtered."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Exists, F, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from channels import channel_changes, tags, usable_keys
from channels.models import ApiKey, Channel
from channels.models.tags import LONGEST_TAG, fold_tag, read_tags
from channels.search import named_like
from common.days import day_of, last_days, start_of
from common.pages.numbers import local_credits
from common.pages.requests import post_only, read_term
from conversations.models import FailedRequest
from conversations.usage.activity import Activity, last_used, list_activity
from conversations.usage.reports import Scope
from dashboard.charts import week_sparkline
from dashboard.console.access import Member, Role, channel_page, member_page
from dashboard.console.filters import model_choices, read_model_names
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page
from dashboard.console.request_links import log_links

CHANNELS_PER_PAGE = 24
# So many fit on a screen as cards. More are easier to compare in a table.
MOST_CARDS = 6
SORTS = {"recent": gettext_lazy("Recently used"), "name": gettext_lazy("Name")}
STATES = {
    "": gettext_lazy("All"),
    "on": gettext_lazy("On"),
    "off": gettext_lazy("Off"),
    "errors": gettext_lazy("Errors today"),
}
# What a change of several channels says afterwards.
_DONE = {
    "on": ngettext_lazy(
        "Switched on: %(count)s channel.", "Switched on: %(count)s channels.", "count"
    ),
    "off": ngettext_lazy(
        "Switched off: %(count)s channel.", "Switched off: %(count)s channels.", "count"
    ),
    "add": ngettext_lazy(
        "Tag added: %(count)s channel.", "Tag added: %(count)s channels.", "count"
    ),
    "remove": ngettext_lazy(
        "Tag removed: %(count)s channel.", "Tag removed: %(count)s channels.", "count"
    ),
}


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
    def tags(self) -> list[str]:
        return read_tags(self.channel.tags)

    @property
    def links_of_today(self) -> dict[str, str]:
        return self.links[-1]

    @cached_property
    def credits_today(self) -> str:
        return local_credits(self.activity.charged_today_microcredits)

    @cached_property
    def chart(self) -> SafeString:
        links = [day["answered"] for day in self.links]
        return week_sparkline(self.activity.requests_by_day, most=self.most_a_day, links=links)


@dataclass(frozen=True, slots=True)
class Listing:
    """What of the channels a request asks for."""

    search: str
    sort: str
    state: str
    model_id: str
    # As the account spells it.
    tag: str

    @classmethod
    def of(cls, request: HttpRequest, tags: Sequence[str]) -> Listing:
        """Return it as the address says. Unknown values are left out, but a tag finds nothing."""
        tag = " ".join(request.GET.get("tag", "").replace("\0", "").split())[:LONGEST_TAG]
        sort, state = request.GET.get("sort", ""), request.GET.get("state", "")
        return cls(
            read_term(request, "q", most=120),
            sort if sort in SORTS else "recent",
            state if state in STATES else "",
            request.GET.get("model", "").replace("\0", "")[:100],
            next((one for one in tags if fold_tag(one) == fold_tag(tag)), tag),
        )

    @property
    def is_filtered(self) -> bool:
        return bool(self.search or self.state or self.model_id or self.tag)

    @property
    def query(self) -> str:
        asked = {
            "q": self.search,
            "sort": self.sort,
            "state": self.state,
            "model": self.model_id,
            "tag": self.tag,
        }
        return urlencode({name: value for name, value in asked.items() if value})

    @property
    def sort_links(self) -> dict[str, str]:
        """Return where each head of the table leads that sorts by its column."""
        return {sort: f"?{replace(self, sort=sort).query}" for sort in SORTS}


@member_page()
def channels(request: HttpRequest, member: Member) -> HttpResponse:
    """List the account's channels."""
    listed = list_context(request, member, timezone.now(), list_url=member.url("channels"))
    return render_page(request, member, "channel_list.html", title=_("Channels"), **listed)


def list_context(
    request: HttpRequest,
    member: Member,
    now: datetime,
    *,
    list_url: str,
    channel_count: int | None = None,
) -> dict[str, Any]:
    """Return what the list of channels shows. `channel_count` saves counting them again."""
    own = Channel.objects.filter(account=member.account)
    known_tags = tags.list_tags(member.account.id)
    listing = Listing.of(request, known_tags)
    if channel_count is None:
        channel_count = own.count()
    paginator = Paginator(_listed(own, listing, now, member.account.time_zone), CHANNELS_PER_PAGE)
    if not listing.is_filtered:
        paginator.count = channel_count
    page = paginator.get_page(request.GET.get("page"))
    return {
        "cards": make_cards(member, list(page), now),
        "page": page,
        "query": listing.query,
        "listing": listing,
        "sorts": SORTS,
        "states": STATES,
        "models": model_choices(read_model_names(), listing.model_id)
        if channel_count > MOST_CARDS
        else [],
        "tags": known_tags,
        "list_url": list_url,
        "channel_count": channel_count,
        "is_table": channel_count > MOST_CARDS,
    }


def _listed(
    own: QuerySet[Channel], listing: Listing, now: datetime, zone: str
) -> QuerySet[Channel]:
    channels = own.select_related("model__successor", "fallback_model__successor")
    channels = channels.defer("system_prompt", "fallback_replies")
    channels = channels.annotate(last_used_at=last_used())
    if listing.search:
        channels = channels.filter(named_like(listing.search))
    if listing.tag:
        channels = tags.tagged(channels, listing.tag)
    if listing.model_id:
        channels = channels.filter(model__model_id=listing.model_id)
    if listing.state == "errors":
        failures = FailedRequest.objects.filter(
            channel=OuterRef("id"), is_test=False, created_at__gte=start_of(day_of(now, zone), zone)
        )
        channels = channels.filter(Exists(failures))
    elif listing.state:
        channels = channels.filter(is_enabled=listing.state == "on")
    if listing.sort == "name":
        return channels.order_by("name", "id")
    return channels.order_by(F("last_used_at").desc(nulls_last=True), "-created_at", "id")


def make_cards(member: Member, channels: Sequence[Channel], now: datetime) -> list[Card]:
    """Return a card for each channel, with three queries for all of them."""
    ids = [channel.id for channel in channels]
    activity = list_activity(channel_ids=ids, now=now, zone=member.account.time_zone)
    live_keys = usable_keys.list_live_keys(channel_ids=ids, now=now)
    most = max((count for one in activity.values() for count in one.requests_by_day), default=0)
    recent = recent_scope(member, now)
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


def recent_scope(member: Member, now: datetime) -> Scope:
    """Return the requests of the last days."""
    zone = member.account.time_zone
    starts_at, ends_at = last_days(now, zone=zone)
    return Scope(account_id=member.account.id, starts_at=starts_at, ends_at=ends_at, zone=zone)


# --- Switches -------------------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
@post_only
def switch_channel(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Switch a channel on or off, as the form says. Repeating it changes nothing."""
    wanted = request.POST.get("is_enabled")
    if wanted not in ("on", "off"):
        return HttpResponse(_("is_enabled must be “on” or “off”."), status=400)
    channel = channel_changes.update_channel(
        channel_id=str(channel.id), actor=member.actor, is_enabled=wanted == "on"
    )
    if request.accepts("text/html"):
        words = _("Switched on.")
        if not channel.is_enabled:
            undo_url = console_url("channel", channel.id)
            words = format_html(
                '{} <a class="gw-link" href="{}#danger-title">{}</a>',
                _("Switched off. The next call is refused."),
                undo_url,
                _("Switch on again"),
            )
        messages.success(request, words)
        # The switch is on the overview and in the channel's settings.
        if "settings" in request.POST:
            return redirect("console:channel", channel.id)
        return redirect(member.url("index"))
    return JsonResponse({"is_enabled": channel.is_enabled})


@member_page(needs=Role.EDITOR)
@post_only
def switch_channels(request: HttpRequest, member: Member) -> HttpResponse:
    """Switch the chosen channels on or off. Raises Http404 unless all are the account's."""
    wanted = request.POST.get("is_enabled")
    if wanted not in ("on", "off"):
        return HttpResponse(_("is_enabled must be “on” or “off”."), status=400)
    found = _chosen(request, member)
    changed = list(found.filter(is_enabled=wanted == "off").values_list("id", flat=True))
    for channel_id in changed:
        channel_changes.update_channel(
            channel_id=str(channel_id), actor=member.actor, is_enabled=wanted == "on"
        )
    return _lead_back(request, member, wanted, len(changed))


@member_page(needs=Role.EDITOR)
@post_only
def tag_channels(request: HttpRequest, member: Member) -> HttpResponse:
    """Add or remove a tag of the chosen channels. Raises Http404 unless all are the account's."""
    wanted = request.POST.get("change")
    if wanted not in ("add", "remove"):
        return HttpResponse(_("change must be “add” or “remove”."), status=400)
    ids = list(_chosen(request, member).values_list("id", flat=True))
    try:
        count = tags.change_tag(
            account_id=member.account.id,
            channel_ids=ids,
            tag=request.POST.get("tag", ""),
            is_added=wanted == "add",
            actor=member.actor,
        )
    except ValidationError as error:
        words = _("Nothing was changed. %(reasons)s")
        messages.error(request, words % {"reasons": " ".join(error.messages)})
        return redirect(_back_url(request, member))
    return _lead_back(request, member, wanted, count)


def _chosen(request: HttpRequest, member: Member) -> QuerySet[Channel]:
    """Return the channels that the form names. Raises Http404 unless all are the account's."""
    try:
        chosen = {uuid.UUID(one) for one in request.POST.getlist("channel")}
    except ValueError:
        raise Http404 from None
    found = Channel.objects.filter(account=member.account, id__in=chosen)
    if len(chosen) > CHANNELS_PER_PAGE or found.count() != len(chosen):
        raise Http404
    return found


def _lead_back(request: HttpRequest, member: Member, done: str, count: int) -> HttpResponse:
    words = _DONE[done] % {"count": count} if count else _("Nothing to change.")
    messages.success(request, words)
    return redirect(_back_url(request, member))


def _back_url(request: HttpRequest, member: Member) -> str:
    back = request.POST.get("next", "")
    is_here = url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return back if is_here else member.url("channels")


urlpatterns = [
    path("channels/", channels, name="channels"),
    path("channels/switch/", switch_channels, name="switch_channels"),
    path("channels/tag/", tag_channels, name="tag_channels"),
    path("channels/<uuid:channel_id>/switch/", switch_channel, name="switch_channel"),
]

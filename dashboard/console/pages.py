"""Renders a page of the console with everything that all its pages have."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from billing.balance import Balance, get_balance, get_runway
from channels.models import Channel
from channels.routes import is_demo
from common.days import UTC_NAME, zone_of
from common.pages.numbers import local_credits
from dashboard import sites
from dashboard.console.access import Member
from dashboard.console.credits_card import describe_credits
from dashboard.console.navigation import channel_tabs


def render_page(
    request: HttpRequest,
    member: Member | None,
    template: str,
    *,
    title: str,
    channel: Channel | None = None,
    balance: Balance | None = None,
    status: int = 200,
    **context: Any,
) -> HttpResponse:
    """Return `templates/console/<template>` in the console's frame, with the channel's tabs.

    Every page shows the account's balance and how long it lasts. It is read here unless the caller
    passes it, in the account's time zone.
    """
    request.current_app = sites.console.name
    now = timezone.now()
    zone = member.account.time_zone if member else UTC_NAME
    card = None
    if member is not None:
        balance = balance or get_balance(account_id=member.account.id, now=now, zone=zone)
        runway = get_runway(balance=balance, now=now)
        card = describe_credits(balance, runway, now, zone)
    frame = sites.console.each_context(request) | {
        "title": title,
        "member": member,
        "channel": channel,
        "balance": balance,
        "credits_card": card,
        "available": local_credits(balance.available) if balance else "",
        "channel_tabs": channel_tabs(request, channel) if channel else [],
        "is_demo": member is not None and is_demo(member.catalogue_mark),
        "brand_href": member.home_url if member else reverse("console:index"),
        "search_url": member.url("search") if member else "",
        # Reversed here, because in a template of the console “admin:” would mean the console.
        "providers_url": reverse("admin:channels_provider_changelist"),
    }
    is_local = member is not None and member.account.has_local_quota
    frame |= {"zone": zone, "quota_zone": zone if is_local else UTC_NAME}
    return _InZone(zone, request, f"console/{template}", frame | context, status=status)


class _InZone(TemplateResponse):
    """A page that shows times of the account's time zone. Its name is `zone`."""

    def __init__(self, zone: str, *args: Any, **options: Any) -> None:
        self._zone = zone
        super().__init__(*args, **options)

    @property
    def rendered_content(self) -> str:
        with timezone.override(zone_of(self._zone)):
            return super().rendered_content

"""The console's sidebar and the tabs of a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from channels.models import Channel
from dashboard.console.access import Member

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# Title, icon (Material Symbols), URL name.
_ACCOUNT_PAGES = (
    (_("Overview"), "space_dashboard", "index"),
    (_("Channels"), "hub", "channels"),
    (_("Usage"), "monitoring", "usage"),
    (_("Requests"), "receipt_long", "requests"),
    (_("Conversations"), "forum", "conversations"),
    (_("Credits"), "account_balance_wallet", "credits"),
    (_("Statements"), "receipt_long", "statements"),
)
_TEAM_PAGES = (
    (_("Team"), "group", "team"),
    (_("Audit log"), "history", "audit_log"),
)
_OWNERS_PAGES = ((_("Account keys"), "vpn_key", "account_keys"),)
# “Connect” is the button beside the channel's name, not a tab.
CHANNEL_TABS = (
    (_("Settings"), "channel"),
    (_("Prompt"), "prompt"),
    (_("Keys"), "keys"),
    (_("Spend caps"), "spend_caps"),
    (_("Saved replies"), "fixed_answers"),
    (_("Connect"), "connect"),
    (_("Playground"), "playground"),
    (_("Usage"), "channel_usage"),
    (_("Requests"), "channel_requests"),
    (_("Conversations"), "channel_conversations"),
)


def console_url(name: str, *args: Any) -> str:
    """Return the URL of a page of the console."""
    return reverse(f"console:{name}", args=args)


def url_within(member: Member, channel: Channel | None, name: str) -> str:
    """Return the URL of a page of the account, or of the same page as a tab of the channel."""
    return console_url(f"channel_{name}", channel.id) if channel else member.url(name)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups in the format of unfold's SIDEBAR setting."""
    member: Member | None = getattr(request, "member", None)
    if member is None:
        return _staff_pages(request.user.is_staff)
    of_account = (*_TEAM_PAGES, *_OWNERS_PAGES) if member.is_owner else _TEAM_PAGES
    groups: list[dict[str, Any]] = [
        {"title": "", "items": [_item(request, member, *page) for page in _ACCOUNT_PAGES]},
        {"title": _("Account"), "items": [_item(request, member, *page) for page in of_account]},
        {
            "title": _("Help"),
            "items": [{"title": _("API reference"), "icon": "menu_book", "link": reverse("docs")}],
        },
    ]
    return groups + _staff_pages(member.user.is_staff)


def _staff_pages(is_staff: bool) -> list[dict[str, Any]]:
    staff = {"title": _("Staff admin"), "icon": "shield_person", "link": reverse("admin:index")}
    return [{"title": _("Staff"), "items": [staff]}] if is_staff else []


def _item(
    request: HttpRequest, member: Member, title: StrOrPromise, icon: str, name: str
) -> dict[str, Any]:
    link = member.url(name)
    is_active = request.path == link or (name != "index" and request.path.startswith(link))
    if name == "channels" and request.path.startswith("/channels/"):
        is_active = True
    return {"title": title, "icon": icon, "link": link, "active": is_active}


def channel_tabs(
    request: HttpRequest, channel: Channel, *, active: str = ""
) -> list[dict[str, Any]]:
    """Return the tabs of a channel's pages. A page below a tab's URL belongs to that tab.

    `active` names the tab of a page whose URL is elsewhere.
    """
    links = [console_url(name, channel.id) for _, name in CHANNEL_TABS]
    # The URL of the settings is a prefix of all the others.
    path = console_url(active, channel.id) if active else request.path
    current = max((link for link in links if path.startswith(link)), key=len, default="")
    return [
        {
            "title": title,
            "link": link,
            "is_active": link == current,
            "is_button": name == "connect",
        }
        for (title, name), link in zip(CHANNEL_TABS, links, strict=True)
    ]

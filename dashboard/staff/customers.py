"""One page for each customer: everything about an account that this staff member may see.

Each part needs the view permission of what it shows. No part shows a visitor's text or a key.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Count
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import credit_requests
from billing.account_statement import Filter, filter_entries, signed_microcredits
from billing.balance import get_balance, get_runway
from billing.models import CreditRequest
from channels.models import Account, AccountKey, Channel, Membership
from common.days import last_days
from common.pages.numbers import local_credits
from conversations.usage import reports
from conversations.usage.reports import Scope
from dashboard.console.access import STAFF_VIEW_PERMISSIONS
from dashboard.console.credit_requests import STATE_BADGES
from dashboard.console.runway import runway_words
from dashboard.staff.activity import DAYS, draw_days
from dashboard.staff.channel_figures import read_channel_figures
from dashboard.staff.credits_desk import desk_url
from dashboard.staff.pages import render_staff_page, staff_page, staff_url

ENTRIES_SHOWN = 8
PEOPLE_SHOWN = 50
KEYS_SHOWN = 20
CHANNELS_SHOWN = 50


@staff_page("channels.view_account")
def customer(request: HttpRequest, account_id: int) -> HttpResponseBase:
    """Show one account: people, traffic, balance, ledger, requests for credits, and links."""
    account = get_object_or_404(Account.objects.select_related("plan"), id=account_id)
    now = timezone.now()
    may = request.user.has_perm
    parts: dict[str, Any] = {}
    if may("conversations.view_message"):
        parts |= _traffic(account, now)
    if may("billing.view_creditaccount"):
        parts |= _balance(account, now)
    if may("channels.view_membership"):
        people = Membership.objects.filter(account=account).select_related("user")
        parts["people"] = people.order_by("role", "user__email")[:PEOPLE_SHOWN]
    if may("channels.view_channel"):
        parts["channels_url"] = staff_url("customer_channels", account.id)
    if may("billing.view_ledgerentry"):
        parts["entries"] = _latest_entries(account)
    if may("billing.view_creditrequest"):
        latest = credit_requests.list_latest(account_id=account.id)
        parts["credit_requests"] = [_describe_request(one) for one in latest]
    if may("channels.view_accountkey"):
        keys = AccountKey.objects.filter(account=account).select_related("created_by")
        parts["account_keys"] = keys.defer("key_ciphertext").order_by("-created_at")[:KEYS_SHOWN]
    return render_staff_page(
        request,
        "customer.html",
        title=account.name,
        account=account,
        links=_links(request, account),
        days=DAYS,
        now=now,
        **parts,
    )


def _traffic(account: Account, now: datetime) -> dict[str, Any]:
    starts_at, ends_at = last_days(now, DAYS, account.time_zone)
    scope = Scope(account.id, starts_at, ends_at, zone=account.time_zone)
    report = reports.get_report(scope, by_channel=False)
    return {
        "today": report.times[-1],
        "total": report.total,
        "charts": draw_days(report.times, account.time_zone),
    }


def _balance(account: Account, now: datetime) -> dict[str, Any]:
    zone = account.time_zone
    balance = get_balance(account_id=account.id, now=now, zone=zone)
    runway = get_runway(balance=balance, now=now)
    return {
        "balance": balance,
        "available": local_credits(balance.available),
        "held": local_credits(balance.held),
        "runway": runway_words(balance, runway, now, zone),
    }


def _latest_entries(account: Account) -> list[dict[str, Any]]:
    entries = filter_entries(account_id=account.id, chosen=Filter())[:ENTRIES_SHOWN]
    changes = [(entry, signed_microcredits(entry)) for entry in entries]
    return [
        {
            "entry": entry,
            "is_added": change > 0,
            "change": f"{'+' if change > 0 else ''}{local_credits(change)}",
            "balance_after": local_credits(entry.balance_after_microcredits),
        }
        for entry, change in changes
    ]


def _describe_request(one: CreditRequest) -> dict[str, Any]:
    return {
        "request": one,
        "amount": local_credits(one.amount_microcredits),
        "granted": local_credits(one.granted_microcredits) if one.granted_microcredits else "",
        "badge": STATE_BADGES.get(CreditRequest.State(one.state), ""),
    }


def _links(request: HttpRequest, account: Account) -> list[dict[str, str]]:
    """Return the pages that this staff member can go on to."""
    audit = f"{staff_url('channels_auditentry_changelist')}?account__id__exact={account.id}"
    pages = (
        (_("Account settings"), "settings", staff_url("channels_account_change", account.id), ()),
        (_("Add credits"), "add", desk_url([account.id], "add"), ("billing.add_ledgerentry",)),
        (
            _("Explain balance"),
            "receipt_long",
            staff_url("timeline", account.id),
            ("billing.view_ledgerentry",),
        ),
        (
            _("View as owner"),
            "visibility",
            staff_url("view_as_owner", account.id),
            STAFF_VIEW_PERMISSIONS,
        ),
        (_("Audit log"), "history", audit, ("channels.view_auditentry",)),
    )
    return [
        {"title": title, "icon": icon, "url": url}
        for title, icon, url, permissions in pages
        if request.user.has_perms(permissions)
    ]


@staff_page("channels.view_account", "channels.view_channel")
def customer_channels(request: HttpRequest, account_id: int) -> HttpResponseBase:
    """Show the account's channels. The customer's page fetches this later."""
    account = get_object_or_404(Account, id=account_id)
    with_activity = request.user.has_perm("conversations.view_message")
    with_keys = request.user.has_perm("channels.view_apikey")
    own = Channel.objects.filter(account=account).select_related("model")
    own = own.defer("system_prompt", "fallback_replies")
    channels = list(own.order_by("name", "id")[:CHANNELS_SHOWN])
    figures = read_channel_figures(
        channels,
        now=timezone.now(),
        zone=account.time_zone,
        with_keys=with_keys,
        with_activity=with_activity,
    )
    counts = Channel.objects.filter(account=account).aggregate(all=Count("id"))
    return render_staff_page(
        request,
        "customer_channels.html",
        title=_("Channels of %(account)s") % {"account": account.name},
        account=account,
        rows=list(zip(channels, figures, strict=True)),
        with_activity=with_activity,
        with_keys=with_keys,
        channel_count=counts["all"],
        all_url=f"{staff_url('channels_channel_changelist')}?account__id__exact={account.id}",
    )

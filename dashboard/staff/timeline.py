"""“Explain this balance”: everything that led to an account's balance."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import account_statement
from billing.account_statement import Filter, signed_microcredits
from billing.balance import get_balance
from billing.models import CreditGrant, Hold, LedgerEntry
from channels.models import Account
from common.pages.numbers import local_credits
from conversations.models import Message
from dashboard.staff.credits_desk import desk_url
from dashboard.staff.pages import render_staff_page, staff_page, staff_url

_CATEGORIES = {
    CreditGrant.Category.PURCHASE: gettext_lazy("purchase"),
    CreditGrant.Category.PROMOTION: gettext_lazy("promotion"),
    CreditGrant.Category.ADJUSTMENT: gettext_lazy("adjustment"),
}


@staff_page("billing.view_ledgerentry", "channels.view_account")
def timeline(request: HttpRequest, account_id: int) -> HttpResponseBase:
    """Show entries newest first, holds in flight, grants, and totals of the days shown."""
    account = get_object_or_404(Account.objects.select_related("plan"), id=account_id)
    now = timezone.now()
    balance = get_balance(account_id=account.id, now=now)
    kind = request.GET.get("kind", "")
    chosen = Filter(kind if kind in LedgerEntry.Kind.values else "")
    page = account_statement.get_page(account_id=account.id, chosen=chosen, before=_before(request))
    return render_staff_page(
        request,
        "timeline.html",
        title=_("Balance of %(account)s") % {"account": account.name},
        account=account,
        figures={
            name: local_credits(value)
            for name, value in (
                ("balance", balance.balance),
                ("held", balance.held),
                ("available", balance.available),
                ("spent", balance.spent),
            )
        },
        entries=_describe_entries(page.entries),
        next_before=page.next_before,
        kind=chosen.kind,
        kinds=LedgerEntry.Kind.choices,
        is_first_page="before" not in request.GET,
        days=[_describe_day(day) for day in _days(account, page.entries)],
        holds=[_describe_hold(hold, now) for hold in _holds(account)],
        grants=[
            _describe_grant(one)
            for one in account_statement.list_grants(account_id=account.id, now=now)
        ],
        links=_links(request, account),
    )


def _before(request: HttpRequest) -> int | None:
    text = request.GET.get("before", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _links(request: HttpRequest, account: Account) -> list[dict[str, str]]:
    links = [{"title": _("Account"), "url": staff_url("channels_account_change", account.id)}]
    if request.user.has_perm("billing.add_ledgerentry"):
        links += [
            {"title": title, "url": desk_url([account.id], deed)}
            for deed, title in (
                ("add", _("Add")),
                ("deduct", _("Deduct")),
                ("correct", _("Correct")),
            )
        ]
    return links


def _days(account: Account, entries: list[LedgerEntry]) -> list[account_statement.DaySum]:
    return account_statement.sum_days(account_id=account.id, entries=entries)


def _holds(account: Account) -> list[Hold]:
    return account_statement.list_open_holds(account_id=account.id)


def _describe_entries(entries: list[LedgerEntry]) -> list[dict[str, Any]]:
    """Describe each entry. A charge links to the reply it paid for."""
    ids = [entry.hold_id for entry in entries if entry.hold_id is not None]
    replies = Message.objects.filter(id__in=ids).select_related("channel").defer("content")
    by_id: dict[Any, Message] = {reply.id: reply for reply in replies}
    shown = [entry.id for entry in entries]
    grants = dict(
        LedgerEntry.objects.filter(id__in=shown, grant__isnull=False).values_list(
            "id", "grant__category"
        )
    )
    return [_describe(entry, by_id.get(entry.hold_id), grants.get(entry.id)) for entry in entries]


def _describe(entry: LedgerEntry, reply: Message | None, category: str | None) -> dict[str, Any]:
    change = signed_microcredits(entry)
    return {
        "entry": entry,
        "change": f"{'+' if change > 0 else ''}{local_credits(change)}",
        "is_added": change > 0,
        "amount": local_credits(entry.amount_microcredits),
        "balance_after": local_credits(entry.balance_after_microcredits),
        "category": str(_CATEGORIES[CreditGrant.Category(category)]) if category else "",
        "reply": reply,
        "reply_url": staff_url("conversations_message_change", reply.id) if reply else "",
    }


def _describe_day(day: account_statement.DaySum) -> dict[str, Any]:
    return {
        "day": day.day,
        "added": local_credits(day.added),
        "taken": local_credits(day.taken),
        "net": local_credits(day.added - day.taken),
    }


def _describe_hold(hold: Hold, now: Any) -> dict[str, Any]:
    return {
        "hold": hold,
        "amount": local_credits(hold.amount_microcredits),
        "is_overdue": hold.expires_at <= now,
    }


def _describe_grant(one: account_statement.GrantLeft) -> dict[str, Any]:
    return {
        "grant": one.grant,
        "amount": local_credits(one.grant.amount_microcredits),
        "left": local_credits(one.left_microcredits),
        "is_over": one.is_over,
    }

"""The staff admin's sidebar: every list that this staff member may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# The group that is closed until somebody opens it.
INTERNALS = _("Internals")
# For each group: model, title, icon (Material Symbols).
_GROUPS = (
    (
        _("Customers"),
        ("channels.account", _("Accounts"), "domain"),
        ("channels.user", _("Users"), "person"),
        ("channels.channel", _("Channels"), "hub"),
        ("channels.apikey", _("Keys"), "key"),
        ("channels.accountkey", _("Account keys"), "vpn_key"),
    ),
    (
        _("Credits"),
        ("billing.creditaccount", _("Balances"), "account_balance_wallet"),
        ("billing.ledgerentry", _("Ledger"), "receipt_long"),
        ("billing.creditgrant", _("Grants"), "redeem"),
        ("billing.creditrequest", _("Credit requests"), "inbox"),
        ("billing.redemptioncode", _("Redemption codes"), "confirmation_number"),
        ("channels.plan", _("Plans"), "workspace_premium"),
    ),
    (
        _("Models"),
        ("channels.languagemodel", _("Models and prices"), "neurology"),
        ("channels.provider", _("Providers"), "cloud"),
        ("channels.route", _("Routes"), "alt_route"),
    ),
    (
        _("Conversations"),
        ("conversations.chatsession", _("Sessions"), "forum"),
        ("conversations.message", _("Messages"), "chat"),
        ("conversations.failedrequest", _("Failed requests"), "error"),
        ("conversations.feedback", _("Feedback"), "thumbs_up_down"),
    ),
    (
        _("System"),
        ("channels.auditentry", _("Audit log"), "history"),
        ("billing.verificationrun", _("Ledger verifications"), "fact_check"),
        ("auth.group", _("Staff groups"), "shield_person"),
        ("mfa.authenticator", _("Second factors"), "passkey"),
    ),
    (
        # What other pages show in its place: of an account, a channel, a route, or a request.
        INTERNALS,
        ("channels.membership", _("Memberships"), "group"),
        ("channels.invitation", _("Invitations"), "mail"),
        ("channels.fixedanswer", _("Saved replies"), "quickreply"),
        ("channels.promptversion", _("Prompt versions"), "edit_note"),
        ("channels.routehealth", _("Route health"), "ecg_heart"),
        ("channels.creditprice", _("Credit prices"), "sell"),
        ("channels.costprice", _("Cost prices"), "payments"),
        ("billing.hold", _("Holds"), "hourglass_top"),
        ("billing.dailyusage", _("Daily usage"), "calendar_month"),
        ("billing.spendcap", _("Spend caps"), "savings"),
        ("billing.ratewindow", _("Rate windows"), "speed"),
        ("conversations.replayedrequest", _("Replays"), "replay"),
        ("conversations.waitingturn", _("Waiting turns"), "pending"),
        ("conversations.idempotencyrecord", _("Idempotency keys"), "content_copy"),
    ),
)
# Models whose list is a page of our own.
_OWN_PAGES = {"billing.creditrequest": "credit_requests"}


def find_place(label: str) -> tuple[StrOrPromise, StrOrPromise] | None:
    """Return the group and the title under which a model such as `channels.plan` is listed."""
    for group, *models in _GROUPS:
        for name, title, _icon in models:
            if name == label:
                return str(group), str(title)
    return None


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups in the format of unfold's SIDEBAR setting."""
    # Never active: every URL begins with the console's, so it would always look like the current
    # page.
    console = {
        "title": _("Console"),
        "icon": "web",
        "link": reverse("console:index"),
        "active": False,
    }
    first: list[dict[str, Any]] = [
        {"title": _("Overview"), "icon": "space_dashboard", "link": reverse("admin:index")},
        console,
    ]
    if request.user.has_perm("billing.view_verificationrun"):
        health = {
            "title": _("System health"),
            "icon": "monitor_heart",
            "link": reverse("admin:health"),
        }
        first.insert(1, health)
    groups = [_group(request, title, *models) for title, *models in _GROUPS]
    if request.user.has_perm("channels.view_route"):
        lists = {
            "title": _("Model lists"),
            "icon": "checklist",
            "link": reverse("admin:model_lists"),
        }
        next(group for group in groups if group["title"] == _("Models"))["items"].append(lists)
    if request.user.has_perm("channels.view_margins"):
        margins = {"title": _("Margins"), "icon": "percent", "link": reverse("admin:margins")}
        next(group for group in groups if group["title"] == _("Credits"))["items"].append(margins)
    return [{"title": "", "items": first}, *(group for group in groups if group["items"])]


def _group(
    request: HttpRequest, title: StrOrPromise, *models: tuple[str, StrOrPromise, str]
) -> dict[str, Any]:
    items = []
    for label, name, icon in models:
        app, model = label.split(".")
        if request.user.has_perm(f"{app}.view_{model}"):
            page = _OWN_PAGES.get(label, f"{app}_{model}_changelist")
            items.append({"title": name, "icon": icon, "link": reverse(f"admin:{page}")})
    return {"title": title, "items": items, "collapsible": title == INTERNALS}

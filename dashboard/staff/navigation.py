"""The staff admin's sidebar: every list that this staff member may see."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

# The group that is closed until somebody opens it.
INTERNALS = "Internals"
# For each group: model, title, icon (Material Symbols).
_GROUPS = (
    (
        "Customers",
        ("channels.account", "Accounts", "domain"),
        ("channels.user", "Users", "person"),
        ("channels.channel", "Channels", "hub"),
        ("channels.apikey", "Keys", "key"),
        ("channels.accountkey", "Account keys", "vpn_key"),
    ),
    (
        "Credits",
        ("billing.creditaccount", "Balances", "account_balance_wallet"),
        ("billing.ledgerentry", "Ledger", "receipt_long"),
        ("billing.creditgrant", "Grants", "redeem"),
        ("billing.creditrequest", "Credit requests", "inbox"),
        ("billing.redemptioncode", "Redemption codes", "confirmation_number"),
        ("channels.plan", "Plans", "workspace_premium"),
        ("channels.creditprice", "Credit prices", "sell"),
    ),
    (
        "Models",
        ("channels.languagemodel", "Models and prices", "neurology"),
        ("channels.provider", "Providers", "cloud"),
        ("channels.route", "Routes", "alt_route"),
        ("channels.costprice", "Cost prices", "payments"),
    ),
    (
        "Conversations",
        ("conversations.chatsession", "Sessions", "forum"),
        ("conversations.message", "Messages", "chat"),
        ("conversations.failedrequest", "Failed requests", "error"),
        ("conversations.feedback", "Feedback", "thumbs_up_down"),
    ),
    (
        "System",
        ("channels.auditentry", "Audit log", "history"),
        ("billing.verificationrun", "Ledger verifications", "fact_check"),
        ("auth.group", "Staff groups", "shield_person"),
        ("mfa.authenticator", "Second factors", "passkey"),
    ),
    (
        # What other pages show in its place: of an account, a channel, a route, or a request.
        INTERNALS,
        ("channels.membership", "Memberships", "group"),
        ("channels.invitation", "Invitations", "mail"),
        ("channels.fixedanswer", "Saved replies", "quickreply"),
        ("channels.promptversion", "Prompt versions", "edit_note"),
        ("channels.routehealth", "Route health", "ecg_heart"),
        ("billing.hold", "Holds", "hourglass_top"),
        ("billing.dailyusage", "Daily usage", "calendar_month"),
        ("billing.spendcap", "Spend caps", "savings"),
        ("billing.ratewindow", "Rate windows", "speed"),
        ("conversations.replayedrequest", "Replays", "replay"),
        ("conversations.waitingturn", "Waiting turns", "pending"),
        ("conversations.idempotencyrecord", "Idempotency keys", "content_copy"),
    ),
)
# Models whose list is a page of our own.
_OWN_PAGES = {"billing.creditrequest": "credit_requests"}


def find_place(label: str) -> tuple[str, str] | None:
    """Return the group and the title under which a model such as `channels.plan` is listed."""
    for group, *models in _GROUPS:
        for name, title, _ in models:
            if name == label:
                return group, title
    return None


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups in the format of unfold's SIDEBAR setting."""
    # Never active: every URL begins with the console's, so it would always look like the current
    # page.
    console = {"title": "Console", "icon": "web", "link": reverse("console:index"), "active": False}
    first: list[dict[str, Any]] = [
        {"title": "Overview", "icon": "space_dashboard", "link": reverse("admin:index")},
        console,
    ]
    if request.user.has_perm("billing.view_verificationrun"):
        health = {
            "title": "System health",
            "icon": "monitor_heart",
            "link": reverse("admin:health"),
        }
        first.insert(1, health)
    groups = [_group(request, title, *models) for title, *models in _GROUPS]
    if request.user.has_perm("channels.view_route"):
        lists = {"title": "Model lists", "icon": "checklist", "link": reverse("admin:model_lists")}
        next(group for group in groups if group["title"] == "Models")["items"].append(lists)
    if request.user.has_perm("channels.view_margins"):
        margins = {"title": "Margins", "icon": "percent", "link": reverse("admin:margins")}
        next(group for group in groups if group["title"] == "Credits")["items"].append(margins)
    return [{"title": "", "items": first}, *(group for group in groups if group["items"])]


def _group(request: HttpRequest, title: str, *models: tuple[str, str, str]) -> dict[str, Any]:
    items = []
    for label, name, icon in models:
        app, model = label.split(".")
        if request.user.has_perm(f"{app}.view_{model}"):
            page = _OWN_PAGES.get(label, f"{app}_{model}_changelist")
            items.append({"title": name, "icon": icon, "link": reverse(f"admin:{page}")})
    return {"title": title, "items": items, "collapsible": title == INTERNALS}

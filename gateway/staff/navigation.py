"""The staff admin's sidebar."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups, as unfold's SIDEBAR setting has them."""
    return [
        {
            "title": "",
            "items": [
                {"title": "Overview", "icon": "space_dashboard", "link": reverse("admin:index")},
                {"title": "Console", "icon": "hub", "link": reverse("console:index")},
            ],
        },
        _group(request, "Customers", "channels.account", "channels.user", "channels.channel"),
        _group(
            request,
            "Credits",
            "billing.creditaccount",
            "billing.ledgerentry",
            "billing.creditgrant",
            "billing.redemptioncode",
            "channels.plan",
        ),
        _group(request, "Models", "channels.languagemodel", "channels.provider", "channels.route"),
        _group(request, "Records", "conversations.chatsession", "conversations.message"),
    ]


_ICONS = {
    "channels.account": ("Accounts", "domain"),
    "channels.user": ("Users", "person"),
    "channels.channel": ("Channels", "hub"),
    "billing.creditaccount": ("Balances", "account_balance_wallet"),
    "billing.ledgerentry": ("Ledger", "receipt_long"),
    "billing.creditgrant": ("Grants", "redeem"),
    "billing.redemptioncode": ("Redemption codes", "confirmation_number"),
    "channels.plan": ("Plans", "workspace_premium"),
    "channels.languagemodel": ("Models and prices", "neurology"),
    "channels.provider": ("Providers", "cloud"),
    "channels.route": ("Routes", "alt_route"),
    "conversations.chatsession": ("Sessions", "forum"),
    "conversations.message": ("Messages", "chat"),
}


def _group(request: HttpRequest, title: str, *labels: str) -> dict[str, Any]:
    """Return the lists that this member of the staff may look at."""
    items = []
    for label in labels:
        app, model = label.split(".")
        if request.user.has_perm(f"{app}.view_{model}"):
            name, icon = _ICONS[label]
            link = reverse(f"admin:{app}_{model}_changelist")
            items.append({"title": name, "icon": icon, "link": link})
    return {"title": title, "items": items}

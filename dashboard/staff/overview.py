"""The staff's first page: the books, today's figures, and what needs attention."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import credit_requests, totals
from billing.models import VerificationRun
from channels import provider_lists
from channels.models import Account, RouteHealth
from common.pages.numbers import local_credits
from dashboard import mail_state
from dashboard.mail_state import has_mail_server
from dashboard.staff.activity import PROVIDERS_STATE
from dashboard.staff.model_lists import count_on_retired_models
from dashboard.staff.pages import rows_url, staff_url

NEWEST = 8
LOW_SHOWN = 8


def index(request: HttpRequest) -> TemplateResponse:
    """Show the overview in the frame of the staff admin."""
    return admin.site.index(request, describe(request))


def describe(request: HttpRequest) -> dict[str, Any]:
    """Return what this staff member may see on the overview."""
    may = request.user.has_perm
    context: dict[str, Any] = {"links": _links(request), "cards": []}
    if may("billing.view_creditaccount"):
        context["cards"] = _money_cards(request)
        context["low"] = totals.list_low_balances(most=LOW_SHOWN)
    if may("billing.view_creditrequest"):
        context["request_count"] = credit_requests.count_open()
        context["requests_url"] = staff_url("credit_requests")
    if may("conversations.view_message"):
        context["activity_url"] = staff_url("activity")
    if request.user.has_perms(PROVIDERS_STATE):
        context["providers_url"] = staff_url("providers_state")
    if may("billing.view_verificationrun"):
        context["verification"] = VerificationRun.objects.order_by("-started_at").first()
        context["open_routes"] = RouteHealth.objects.exclude(retry_at=None).count()
        context["health_url"] = staff_url("health")
        # Every page says when no worker runs.
        context["mail_obstacle"] = "" if has_mail_server() else mail_state.NO_SERVER
    if may("channels.view_route"):
        context["missing_count"] = provider_lists.count_missing()
    if may("channels.view_languagemodel"):
        context["retired_count"] = count_on_retired_models()
    if may("channels.view_account"):
        context["newest"] = Account.objects.select_related("plan").order_by("-id")[:NEWEST]
    return context


def _money_cards(request: HttpRequest) -> list[dict[str, str]]:
    books = totals.sum_books()
    figures: tuple[tuple[str, int, str, str, dict[str, str]], ...] = (
        (_("Issued"), books.issued, _("credits ever granted"), "creditgrant", {}),
        (_("On accounts"), books.balance, _("not yet spent"), "creditaccount", {}),
        (_("Held"), books.held, _("for replies in progress"), "hold", {"state__exact": "held"}),
        (
            _("Spent"),
            books.spent,
            _("charged or deducted"),
            "ledgerentry",
            {"kind__exact": "charge"},
        ),
    )
    return [
        {
            "label": label,
            "value": local_credits(amount),
            "note": note,
            "url": rows_url(request, "billing", model, **filters),
        }
        for label, amount, note, model, filters in figures
    ]


# Title, icon, URL name, and the permissions it needs. Of links with the same title, the first
# permitted one is shown.
_LINKS = (
    (
        gettext_lazy("Accounts and balances"),
        "domain",
        "channels_account_changelist",
        ("channels.view_account",),
    ),
    (gettext_lazy("Credit requests"), "inbox", "credit_requests", ("billing.view_creditrequest",)),
    (
        gettext_lazy("Redemption codes"),
        "confirmation_number",
        "billing_redemptioncode_changelist",
        ("billing.view_redemptioncode",),
    ),
    (
        gettext_lazy("Redemption codes"),
        "confirmation_number",
        "make_codes",
        ("billing.add_redemptioncode", "billing.add_ledgerentry"),
    ),
    (
        gettext_lazy("Models and prices"),
        "sell",
        "channels_languagemodel_changelist",
        ("channels.view_languagemodel",),
    ),
    (
        gettext_lazy("Providers"),
        "cloud",
        "channels_provider_changelist",
        ("channels.view_provider",),
    ),
    (gettext_lazy("Margins"), "percent", "margins", ("channels.view_margins",)),
    (
        gettext_lazy("Test a route"),
        "alt_route",
        "channels_route_changelist",
        ("channels.view_route",),
    ),
    (gettext_lazy("Model lists"), "checklist", "model_lists", ("channels.view_route",)),
    (gettext_lazy("System health"), "monitor_heart", "health", ("billing.view_verificationrun",)),
)


def _links(request: HttpRequest) -> list[dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for title, icon, name, permissions in _LINKS:
        if request.user.has_perms(permissions):
            found.setdefault(
                str(title), {"title": str(title), "icon": icon, "url": staff_url(name)}
            )
    return list(found.values())

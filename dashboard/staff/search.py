"""What the palette of the staff admin finds: what this staff member may see."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, When
from django.http import HttpRequest, JsonResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import search
from channels.models import Account, Channel
from common.pages.requests import read_term
from conversations.usage import request_log
from dashboard import palette
from dashboard.palette import Result
from dashboard.staff import navigation
from dashboard.staff.credits_desk import desk_url
from dashboard.staff.pages import staff_url

# Title, icon, URL name, and the permissions that the page needs.
_COMMANDS = (
    (
        gettext_lazy("Create redemption codes"),
        "confirmation_number",
        "make_codes",
        ("billing.add_redemptioncode", "billing.add_ledgerentry"),
    ),
)
# Of the credits desk.
_BOOKING_PERMISSIONS = ("billing.add_ledgerentry", "channels.view_account")
_MOST_BOOKINGS = 5


def answer(request: HttpRequest) -> JsonResponse:
    """Return what a term finds.

    Replaces unfold's search, which caches results by person and term for five minutes, so that
    they outlive a permission that is taken away.
    """
    term = read_term(request, "s")
    fixed = palette.pages_of(navigation.sidebar(request))
    fixed += [
        palette.command(str(title), icon, f"admin:{name}")
        for title, icon, name, permissions in _COMMANDS
        if request.user.has_perms(permissions)
    ]
    found = palette.matching([*fixed, *palette.personal_commands(request)], term)
    rows = _rows(request, term) if term else []
    # What is found by its name is no id.
    rows = rows or _requests(request, term)
    return palette.render([*rows, *found, *_credits_for(request, term)])


def _rows(request: HttpRequest, term: str) -> list[Result]:
    """Return the accounts and channels that this staff member may see."""
    found: list[Result] = []
    # What is called so comes before what is found by its site, its key, or its people.
    order = (Case(When(name__icontains=term, then=0), default=1), "-id")
    if request.user.has_perm("channels.view_account"):
        accounts = Account.objects.filter(
            search.accounts_matching(term, request.user.has_perm)
        ).order_by(*order)
        found += [
            Result(_("Accounts"), one.name, "domain", staff_url("customer", one.pk))
            for one in accounts[: palette.MOST_ROWS]
        ]
    if request.user.has_perm("channels.view_channel"):
        channels = Channel.objects.filter(
            search.channels_matching(term, request.user.has_perm)
        ).order_by(*order)
        found += [
            _row(one, _("Channels"), "hub", _("Channel of %(account)s") % {"account": one.account})
            for one in channels.select_related("account")[: palette.MOST_ROWS]
        ]
    return found


def _credits_for(request: HttpRequest, term: str) -> list[Result]:
    """Return the command to add credits for the accounts that the term's other words find."""
    title = _("Add credits to %(account)s")
    words = palette.words_of(term)
    rest = [word for word in words if not palette.names(word, title)]
    if len(rest) == len(words) or not request.user.has_perms(_BOOKING_PERMISSIONS):
        return []
    accounts = Account.objects.order_by("-id")
    if rest:
        accounts = accounts.filter(search.accounts_matching(" ".join(rest), request.user.has_perm))
    return [
        Result(_("Commands"), title % {"account": one.name}, "add", desk_url([one.pk]))
        for one in accounts[:_MOST_BOOKINGS]
    ]


def _row(row: Any, group: str, icon: str, note: str = "") -> Result:
    url = staff_url(f"channels_{row._meta.model_name}_change", row.pk)
    return Result(group, str(row), icon, url, note)


def _requests(request: HttpRequest, reference: str) -> list[Result]:
    """Return the newest requests with this request or message id that this person may see."""
    if len(reference) < palette.SHORTEST_REFERENCE:
        return []
    entries = request_log.find_by_reference(
        account_id=None, reference=reference, most=palette.MOST_REQUESTS
    )
    return [
        Result(
            _("Requests"),
            entry.row.request_id or reference,
            "receipt_long",
            staff_url(f"conversations_{entry.row._meta.model_name}_change", entry.row.pk),
            _("Request of %(channel)s") % {"channel": entry.row.channel},
        )
        for entry in entries
        if request.user.has_perm(f"conversations.view_{entry.row._meta.model_name}")
    ]

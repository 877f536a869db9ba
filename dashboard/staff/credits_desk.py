"""The credits desk: a form, a preview of what it does to each account, and then the booking."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from billing import bookings
from billing.bookings import Booking, Outcome
from billing.models import MAX_REASON, CreditGrant, LedgerEntry
from channels.models import Account
from common.money import MAX_MICROCREDITS
from common.pages.forms import CreditsField, DayField, LabelledForm
from common.pages.numbers import local_credits
from common.pages.requests import read_term
from dashboard.staff.pages import actor_of, render_staff_page, staff_page, staff_url

MOST_ACCOUNTS = 500
DEEDS = ("add", "deduct", "correct")
_REFUSALS_SAID = 10


class BookingForm(LabelledForm):
    """What to book. The form's token becomes the entries' reference."""

    accounts = forms.CharField(widget=forms.HiddenInput, max_length=20_000)
    token = forms.UUIDField(widget=forms.HiddenInput)
    deed = forms.ChoiceField(
        label=gettext_lazy("What to do"),
        choices=[
            ("add", gettext_lazy("Add credits")),
            ("deduct", gettext_lazy("Deduct credits")),
            ("correct", gettext_lazy("Correct: add, or deduct with a minus sign")),
        ],
    )
    amount = CreditsField(
        least=-MAX_MICROCREDITS,
        label=gettext_lazy("Amount in credits"),
        help_text=gettext_lazy("Up to six decimals, such as 250 or 0.5."),
    )
    category = forms.ChoiceField(
        label=gettext_lazy("Category"),
        choices=CreditGrant.Category.choices,
        help_text=gettext_lazy(
            "For added credits only. A deduction or correction is always an adjustment."
        ),
    )
    last_day = DayField(
        label=gettext_lazy("Last day"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=gettext_lazy(
            "The last day (UTC) to spend a purchase or promotion. Leave empty for no end."
        ),
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=MAX_REASON,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("The account's members see this in their ledger."),
    )

    def clean_accounts(self) -> list[Account]:
        accounts = find_accounts(self.cleaned_data["accounts"])
        if not accounts:
            raise forms.ValidationError(_("First select accounts in the list of accounts."))
        return accounts

    def clean_last_day(self) -> Any:
        last_day = self.cleaned_data["last_day"]
        if last_day is not None and last_day < timezone.now().date():
            raise forms.ValidationError(_("This day is over. Choose today or a later day."))
        return last_day

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        amount, deed = data.get("amount"), data.get("deed")
        if amount == 0 or (deed != "correct" and (amount or 0) < 0):
            self.add_error("amount", _("Must be more than 0."))
        is_adjustment = deed != "add" or data.get("category") == CreditGrant.Category.ADJUSTMENT
        if is_adjustment and data.get("last_day"):
            self.add_error("last_day", _("Only a purchase or a promotion can have an end."))
        return data

    def booking(self) -> Booking:
        """Return what a valid form books on each account."""
        data = self.cleaned_data
        is_added = data["deed"] == "add"
        return Booking(
            change_microcredits=-data["amount"] if data["deed"] == "deduct" else data["amount"],
            reason=data["reason"],
            category=data["category"] if is_added else CreditGrant.Category.ADJUSTMENT,
            expires_at=_end_of(data["last_day"]) if data["last_day"] else None,
        )


def _end_of(day: Any) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(days=1)


def find_accounts(ids: str) -> list[Account]:
    """Return the accounts of a comma-separated list of ids, at most 500."""
    wanted = [int(part) for part in ids.split(",") if part.isdecimal() and len(part) < 19]
    return list(Account.objects.filter(id__in=wanted[:MOST_ACCOUNTS]).order_by("name", "id"))


def desk_url(account_ids: list[int], deed: str = "add") -> str:
    """Return the URL of the desk for some accounts."""
    query = urlencode({"accounts": ",".join(map(str, account_ids)), "deed": deed}, safe=",")
    return f"{staff_url('credits_desk')}?{query}"


@staff_page("billing.add_ledgerentry", "channels.view_account")
def book(request: HttpRequest) -> HttpResponseBase:
    """Show the form, then a preview of its effect, then book it, once."""
    if request.method != "POST":
        return _ask(request, _empty_form(request))
    form = BookingForm(request.POST)
    if not form.is_valid():
        return _ask(request, form, status=422)
    accounts = form.cleaned_data["accounts"]
    step = request.POST.get("step")
    if step == "book":
        return _book(request, form)
    rows = bookings.preview(accounts, form.booking())
    if step == "edit":
        return _ask(request, form)
    if all(row.refusal for row in rows):
        form.add_error("amount", _why_refused(rows))
        return _ask(request, form, status=422)
    return _show_preview(request, form, rows)


def _why_refused(rows: list[bookings.Preview]) -> str:
    return (
        rows[0].refusal
        if len(rows) == 1
        else _("None of these accounts has that many credits available.")
    )


def _empty_form(request: HttpRequest) -> BookingForm:
    deed = request.GET.get("deed", "")
    return BookingForm(
        initial={
            "accounts": request.GET.get("accounts", ""),
            "token": uuid.uuid4(),
            "deed": deed if deed in DEEDS else "add",
        }
    )


def _ask(request: HttpRequest, form: BookingForm, status: int = 200) -> HttpResponseBase:
    accounts = find_accounts(str(form["accounts"].value() or ""))
    nothing = Booking(0, "")
    rows = [_describe(row) for row in bookings.preview(accounts, nothing)]
    return render_staff_page(
        request,
        "credits_desk.html",
        title=_("Credits desk"),
        status=status,
        form=form,
        rows=rows,
        accounts_url=staff_url("channels_account_changelist"),
    )


def _show_preview(
    request: HttpRequest, form: BookingForm, rows: list[bookings.Preview]
) -> HttpResponseBase:
    booking = form.booking()
    booked = [row for row in rows if not row.refusal]
    return render_staff_page(
        request,
        "credits_preview.html",
        title=_("Check before booking"),
        form=form,
        booking=booking,
        category=str(CreditGrant.Category(booking.category).label),
        rows=[_describe(row) for row in rows],
        booked_count=len(booked),
        refused_count=len(rows) - len(booked),
        total=local_credits(booking.change_microcredits * len(booked)),
        change=_signed(booking.change_microcredits),
    )


def _describe(row: bookings.Preview) -> dict[str, Any]:
    return {
        "account": row.account,
        "balance": local_credits(row.balance),
        "available": local_credits(row.available),
        "change": _signed(row.change),
        "balance_after": local_credits(row.balance_after),
        "available_after": local_credits(row.available_after),
        "refusal": row.refusal,
    }


def _signed(microcredits: int) -> str:
    return f"{'+' if microcredits > 0 else ''}{local_credits(microcredits)}"


def _reference(token: uuid.UUID) -> str:
    return f"desk {token}"


def _book(request: HttpRequest, form: BookingForm) -> HttpResponseBase:
    accounts, token = form.cleaned_data["accounts"], form.cleaned_data["token"]
    outcomes = bookings.book(
        accounts, form.booking(), reference=_reference(token), actor=actor_of(request)
    )
    if len(outcomes) == 1 and outcomes[0].entry is None:
        form.add_error("amount", outcomes[0].refusal)
        return _ask(request, form, status=422)
    _say(request, outcomes)
    if len(accounts) == 1:
        return redirect(staff_url("timeline", accounts[0].id))
    ids = ",".join(str(account.id) for account in accounts)
    query = urlencode({"token": str(token), "accounts": ids}, safe=",")
    return redirect(f"{staff_url('credits_booked')}?{query}")


def _say(request: HttpRequest, outcomes: list[Outcome]) -> None:
    """Say what was booked now, what had been booked before, and what was refused."""
    new = [one for one in outcomes if one.is_new]
    earlier = [one for one in outcomes if one.entry and not one.is_new]
    refused = [one for one in outcomes if one.entry is None]
    if new:
        said = ngettext("Booked on %(count)s account.", "Booked on %(count)s accounts.", len(new))
        messages.success(request, said % {"count": len(new)})
    if earlier:
        said = ngettext(
            "This form was already booked on %(count)s account: nothing was added.",
            "This form was already booked on %(count)s accounts: nothing was added.",
            len(earlier),
        )
        messages.info(request, said % {"count": len(earlier)})
    for one in refused[:_REFUSALS_SAID]:
        said = _("Not booked on %(account)s: %(why)s")
        messages.error(request, said % {"account": one.account.name, "why": one.refusal})
    if len(refused) > _REFUSALS_SAID:
        more = len(refused) - _REFUSALS_SAID
        said = ngettext(
            "Not booked on %(count)s account more, for the same reasons.",
            "Not booked on %(count)s accounts more, for the same reasons.",
            more,
        )
        messages.error(request, said % {"count": more})


@staff_page("billing.view_ledgerentry", "channels.view_account")
def booked(request: HttpRequest) -> HttpResponseBase:
    """Show what a form has booked on each of many accounts."""
    accounts = find_accounts(request.GET.get("accounts", ""))
    entries = LedgerEntry.objects.filter(
        credit_account_id__in=[account.id for account in accounts],
        reference=f"desk {read_term(request, 'token')}",
    )
    by_account = {entry.credit_account_id: entry for entry in entries}
    rows = [_describe_booked(account, by_account.get(account.id)) for account in accounts]
    return render_staff_page(
        request,
        "credits_booked.html",
        title=_("What was booked"),
        rows=rows,
        booked_count=len(by_account),
    )


def _describe_booked(account: Account, entry: LedgerEntry | None) -> dict[str, Any]:
    after = local_credits(entry.balance_after_microcredits) if entry else ""
    return {"account": account, "entry": entry, "balance_after": after}

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

from billing import bookings
from billing.bookings import Booking, Outcome
from billing.models import MAX_REASON, CreditGrant, LedgerEntry
from channels.models import Account
from common.money import MAX_MICROCREDITS, show_credits
from common.pages.forms import CreditsField, DayField, LabelledForm
from dashboard.staff.pages import actor_of, render_staff_page, staff_page, staff_url

MOST_ACCOUNTS = 500
DEEDS = {"add": "Add", "deduct": "Deduct", "correct": "Correct"}
_REFUSALS_SAID = 10


class BookingForm(LabelledForm):
    """What to book. The form's token becomes the entries' reference."""

    accounts = forms.CharField(widget=forms.HiddenInput, max_length=20_000)
    token = forms.UUIDField(widget=forms.HiddenInput)
    deed = forms.ChoiceField(
        label="What to do",
        choices=[
            ("add", "Add credits"),
            ("deduct", "Deduct credits"),
            ("correct", "Correct: add, or deduct with a minus sign"),
        ],
    )
    amount = CreditsField(
        least=-MAX_MICROCREDITS,
        label="Amount in credits",
        help_text="Up to six decimals, such as 250 or 0.5.",
    )
    category = forms.ChoiceField(
        label="Category",
        choices=CreditGrant.Category.choices,
        help_text="For added credits only. A deduction or correction is always an adjustment.",
    )
    last_day = DayField(
        label="Last day",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="The last day (UTC) to spend a purchase or promotion. Leave empty for no end.",
    )
    reason = forms.CharField(
        label="Reason",
        max_length=MAX_REASON,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="The account's members see this in their ledger.",
    )

    def clean_accounts(self) -> list[Account]:
        accounts = find_accounts(self.cleaned_data["accounts"])
        if not accounts:
            raise forms.ValidationError("First select accounts in the list of accounts.")
        return accounts

    def clean_last_day(self) -> Any:
        last_day = self.cleaned_data["last_day"]
        if last_day is not None and last_day < timezone.now().date():
            raise forms.ValidationError("This day is over. Choose today or a later day.")
        return last_day

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        amount, deed = data.get("amount"), data.get("deed")
        if amount == 0 or (deed != "correct" and (amount or 0) < 0):
            self.add_error("amount", "Must be more than 0.")
        is_adjustment = deed != "add" or data.get("category") == CreditGrant.Category.ADJUSTMENT
        if is_adjustment and data.get("last_day"):
            self.add_error("last_day", "Only a purchase or a promotion can have an end.")
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
        else "None of these accounts has that many credits available."
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
        title="Credits desk",
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
        title="Check before booking",
        form=form,
        booking=booking,
        category=CreditGrant.Category(booking.category).label,
        rows=[_describe(row) for row in rows],
        booked_count=len(booked),
        refused_count=len(rows) - len(booked),
        total=show_credits(booking.change_microcredits * len(booked)),
        change=_signed(booking.change_microcredits),
    )


def _describe(row: bookings.Preview) -> dict[str, Any]:
    return {
        "account": row.account,
        "balance": show_credits(row.balance),
        "available": show_credits(row.available),
        "change": _signed(row.change),
        "balance_after": show_credits(row.balance_after),
        "available_after": show_credits(row.available_after),
        "refusal": row.refusal,
    }


def _signed(microcredits: int) -> str:
    return f"{'+' if microcredits > 0 else ''}{show_credits(microcredits)}"


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
        messages.success(request, f"Booked on {_accounts(len(new))}.")
    if earlier:
        said = f"This form was already booked on {_accounts(len(earlier))}: nothing was added."
        messages.info(request, said)
    for one in refused[:_REFUSALS_SAID]:
        messages.error(request, f"Not booked on {one.account.name}: {one.refusal}")
    if len(refused) > _REFUSALS_SAID:
        more = len(refused) - _REFUSALS_SAID
        messages.error(request, f"Not booked on {_accounts(more)} more, for the same reasons.")


def _accounts(count: int) -> str:
    return "1 account" if count == 1 else f"{count} accounts"


@staff_page("billing.view_ledgerentry", "channels.view_account")
def booked(request: HttpRequest) -> HttpResponseBase:
    """Show what a form has booked on each of many accounts."""
    accounts = find_accounts(request.GET.get("accounts", ""))
    entries = LedgerEntry.objects.filter(
        credit_account_id__in=[account.id for account in accounts],
        reference=f"desk {request.GET.get('token', '')}",
    )
    by_account = {entry.credit_account_id: entry for entry in entries}
    rows = [_describe_booked(account, by_account.get(account.id)) for account in accounts]
    return render_staff_page(
        request,
        "credits_booked.html",
        title="What was booked",
        rows=rows,
        booked_count=len(by_account),
    )


def _describe_booked(account: Account, entry: LedgerEntry | None) -> dict[str, Any]:
    after = show_credits(entry.balance_after_microcredits) if entry else ""
    return {"account": account, "entry": entry, "balance_after": after}

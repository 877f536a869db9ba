"""Credits of an account: balance, ledger, grants, codes, requests, plans, and prices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import account_statement, credit_requests, holds, redemptions, warnings
from billing.account_statement import Filter, signed_microcredits
from billing.balance import get_balance
from billing.errors import CodeRefused, RequestRefused
from billing.models import CreditRequest, Hold, LedgerEntry
from channels.catalogue import models_allowed
from channels.models import Account, Plan
from common.money import format_credits
from common.pages.forms import CreditsField, DayField, LabelledForm
from common.pages.numbers import local_credits
from common.pages.requests import post_only
from common.pages.spreadsheets import csv_response
from dashboard import mail_state
from dashboard.console.access import Member, Role, member_page
from dashboard.console.credit_requests import AskForm, describe_requests
from dashboard.console.filters import DAY, ListFilters, set_zone
from dashboard.console.ledger_words import words_of_reason
from dashboard.console.pages import render_page

MOST_HOLDS = 50
CSV_HEADER = (
    "entry",
    "time_utc",
    "kind",
    "change_credits",
    "balance_after_credits",
    "reason",
    "reference",
    "actor",
    "request_id",
)


class FilterForm(ListFilters):
    """Which entries to show. An invalid value is reported beside its field and not applied."""

    kind = forms.ChoiceField(
        required=False,
        label=gettext_lazy("Kind"),
        choices=[("", gettext_lazy("All kinds")), *LedgerEntry.Kind.choices],
        widget=forms.Select(attrs={"data-autosubmit": ""}),
    )
    first_day = DayField(required=False, label=gettext_lazy("From ({zone})"), widget=DAY)
    last_day = DayField(required=False, label=gettext_lazy("To ({zone})"), widget=DAY)

    def __init__(self, data: QueryDict, *, account: Account) -> None:
        super().__init__(data, label_suffix="")
        self.zone = account.time_zone
        set_zone(self, self.zone)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        first, last = data.get("first_day"), data.get("last_day")
        if first and last and first > last:
            self.add_error("last_day", _("Must not be before the first day."))
        return data

    def chosen(self) -> Filter:
        self.full_clean()
        first, last = self.value("first_day"), self.value("last_day")
        return Filter(self.value("kind") or "", first, last, self.zone)


class RedeemForm(LabelledForm):
    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=60,
        widget=forms.TextInput(
            attrs={
                "placeholder": "XXXX-XXXX-XXXX-XXXX",
                "autocomplete": "off",
                "spellcheck": "false",
            }
        ),
    )


class ThresholdForm(LabelledForm):
    threshold = CreditsField(
        label=gettext_lazy("Warn below"), help_text=gettext_lazy("In credits.")
    )


@member_page()
def ledger(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the page."""
    return _render(request, member)


def _render(
    request: HttpRequest,
    member: Member,
    *,
    redeem: RedeemForm | None = None,
    threshold: ThresholdForm | None = None,
    ask: AskForm | None = None,
) -> HttpResponse:
    now, account = timezone.now(), member.account
    balance = get_balance(account_id=account.id, now=now, zone=account.time_zone)
    held: list[Hold] = []
    if balance.held:
        held = list(holds.list_open(account_id=account.id, now=now)[: MOST_HOLDS + 1])
    filters = FilterForm(request.GET, account=account)
    page = account_statement.get_page(
        account_id=account.id,
        chosen=filters.chosen(),
        before=_read_before(request),
    )
    is_refused = bool(redeem or threshold or ask)
    return render_page(
        request,
        member,
        "ledger.html",
        title=_("Credits"),
        status=422 if is_refused else 200,
        balance=balance,
        figures={
            "available": local_credits(balance.available),
            "balance": local_credits(balance.balance),
            "held": local_credits(balance.held),
            "spent": local_credits(balance.spent),
            "low_balance": local_credits(balance.low_balance),
        },
        holds=[
            {"hold": hold, "amount": local_credits(hold.amount_microcredits)}
            for hold in held[:MOST_HOLDS]
        ],
        has_more_holds=len(held) > MOST_HOLDS,
        entries=[_describe(member, entry) for entry in page.entries],
        older_url=f"?{filters.query(before=str(page.next_before))}" if page.next_before else "",
        is_first_page="before" not in request.GET,
        filters=filters,
        csv_query=filters.query(),
        grants=[_describe_grant(one) for one in _grants(account)],
        redeem_form=redeem or RedeemForm(),
        threshold_form=threshold or ThresholdForm(initial={"threshold": balance.low_balance}),
        plans=_describe_plans(account),
        prices=_describe_prices(account),
        mail_obstacle=mail_state.find_obstacle(),
        **describe_requests(account, ask),
    )


def _grants(account: Account) -> list[account_statement.GrantLeft]:
    return account_statement.list_grants(account_id=account.id, now=timezone.now())


def _read_before(request: HttpRequest) -> int | None:
    text = request.GET.get("before", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _describe(member: Member, entry: LedgerEntry) -> dict[str, Any]:
    change = signed_microcredits(entry)
    is_charge = entry.kind == LedgerEntry.Kind.CHARGE and entry.hold_id is not None
    return {
        "entry": entry,
        "reason": words_of_reason(entry.reason),
        "change": f"{'+' if change > 0 else ''}{local_credits(change)}",
        "is_added": change > 0,
        # A reply has the id of the hold that paid for it.
        "request_url": member.url("request", entry.hold_id) if is_charge else "",
        "balance_after": local_credits(entry.balance_after_microcredits),
    }


def _describe_grant(one: account_statement.GrantLeft) -> dict[str, Any]:
    amount = one.grant.amount_microcredits
    return {
        "grant": one.grant,
        "reason": words_of_reason(one.grant.entry.reason),
        "amount": local_credits(amount),
        "left": local_credits(one.left_microcredits),
        "percent": one.left_microcredits * 100 // amount,
        "is_over": one.is_over,
    }


def _describe_plans(account: Account) -> list[dict[str, Any]]:
    plans = Plan.objects.prefetch_related("models_allowed")
    return [
        {
            "plan": plan,
            "is_own": plan.id == account.plan_id,
            "monthly": local_credits(plan.monthly_grant_microcredits),
            "models": [model.name for model in plan.models_allowed.all()],
        }
        for plan in plans
    ]


def _describe_prices(account: Account) -> list[dict[str, str]]:
    return [
        {
            "name": model.name,
            "per_reply": local_credits(model.price_per_reply_microcredits),
            "per_1k_input": local_credits(model.price_per_1k_input_tokens_microcredits),
            "per_1k_output": local_credits(model.price_per_1k_output_tokens_microcredits),
            "cached": {kind: local_credits(price) for kind, price in model.token_prices()}.get(
                "cached input", ""
            ),
        }
        for model in models_allowed(account.id)
    ]


@member_page()
def export(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Download the filtered ledger."""
    chosen = FilterForm(request.GET, account=member.account).chosen()
    entries = account_statement.iterate_entries(account_id=member.account.id, chosen=chosen)
    return csv_response("credits.csv", CSV_HEADER, csv_rows(entries))


def csv_rows(entries: Iterator[LedgerEntry]) -> Iterator[tuple[Any, ...]]:
    """Yield the lines of the ledger's file."""
    for entry in entries:
        yield (
            entry.sequence,
            entry.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            entry.kind,
            format_credits(signed_microcredits(entry)),
            format_credits(entry.balance_after_microcredits),
            entry.reason,
            entry.reference or "",
            entry.actor,
            entry.request_id,
        )


@member_page(needs=Role.OWNER)
@post_only
def redeem_code(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Redeem a code. Errors appear beside the field."""
    form = RedeemForm(request.POST)
    if form.is_valid():
        try:
            entry = redemptions.redeem(
                account=member.account, text=form.cleaned_data["code"], actor=member.actor
            )
        except CodeRefused as error:
            form.add_error("code", str(error))
        else:
            amount = local_credits(entry.amount_microcredits)
            messages.success(request, _("Added %(amount)s credits.") % {"amount": amount})
            return redirect(member.url("credits"))
    return _render(request, member, redeem=form)


@member_page(needs=Role.OWNER)
@post_only
def set_threshold(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Change the balance below which the owners are warned."""
    form = ThresholdForm(request.POST)
    if not form.is_valid():
        return _render(request, member, threshold=form)
    threshold = form.cleaned_data["threshold"]
    warnings.set_low_balance(
        account=member.account, threshold_microcredits=threshold, actor=member.actor
    )
    if mail_state.find_obstacle():
        words = _("An account is low below %(amount)s credits.")
    else:
        words = _("Owners are warned below %(amount)s credits.")
    messages.success(request, words % {"amount": local_credits(threshold)})
    return redirect(member.url("credits"))


@member_page(needs=Role.OWNER)
@post_only
def ask_for_credits(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Ask the operator for credits. The same form, sent again, asks once."""
    form = AskForm(request.POST)
    if not form.is_valid():
        return _render(request, member, ask=form)
    data = form.cleaned_data
    try:
        _request, is_new = credit_requests.ask(
            account=member.account,
            amount_microcredits=data["amount"],
            note=data["note"],
            token=data["token"],
            actor=member.actor,
        )
    except RequestRefused as error:
        form.add_error(None, str(error))
        return _render(request, member, ask=form)
    if is_new:
        if mail_state.find_obstacle():
            words = _("You asked for %(amount)s credits. You will see the decision on this page.")
        else:
            words = _(
                "You asked for %(amount)s credits. You will see the decision on this page and by "
                "e-mail."
            )
        messages.success(request, words % {"amount": local_credits(data["amount"])})
    else:
        messages.info(request, _("This request was already sent."))
    return redirect(member.url("credits"))


@member_page(needs=Role.OWNER)
@post_only
def withdraw_request(request: HttpRequest, member: Member, request_id: int) -> HttpResponseBase:
    """Withdraw the account's open request."""
    own = CreditRequest.objects.filter(account=member.account, id=request_id).first()
    if own is None:
        raise Http404
    if credit_requests.withdraw(request=own, actor=member.actor):
        messages.success(request, _("Your request has been withdrawn."))
    else:
        messages.info(request, _("This request is no longer open. See the decision below."))
    return redirect(member.url("credits"))


urlpatterns = [
    path("credits/", ledger, name="credits"),
    path("credits/export.csv", export, name="credits_export"),
    path("credits/redeem/", redeem_code, name="redeem_code"),
    path("credits/ask/", ask_for_credits, name="ask_for_credits"),
    path("credits/requests/<int:request_id>/withdraw/", withdraw_request, name="withdraw_request"),
    path("credits/threshold/", set_threshold, name="credits_threshold"),
]

"""Monthly statements: a list of months, and each month as a page to print and as CSV."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import statements
from billing.balance import Balance, get_balance
from billing.months import Month, bounds_of, parse_month
from billing.statements import Movement, Statement, Sums
from channels.models import Account, Channel
from common import db
from common.db.plans import snapshot
from common.money import format_credits
from common.pages import dates
from common.pages.numbers import local_credits
from common.pages.spreadsheets import csv_response, lines
from conversations.usage import reports
from conversations.usage.reports import Line, Report, Scope
from dashboard.console.access import Member, member_page
from dashboard.console.filters import read_model_names
from dashboard.console.ledger_words import words_of_reason
from dashboard.console.pages import render_page
from dashboard.console.request_links import log_links, log_query

_NO_LIMIT = Month(2999, 12)
MOVEMENTS_SHOWN = 200
CSV_HEADER = (
    "line", "time_utc", "channel", "model", "replies", "change_credits", "reason", "reference",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MonthlyFigures:
    """A statement with the charges of the month's replies, by channel and model."""

    statement: Statement
    scope: Scope
    report: Report
    balance: Balance
    # Replies to drafts, which the report leaves out.
    draft_count: int
    drafts_microcredits: int

    @property
    def charges(self) -> list[Line]:
        return [line for line in self.report.pairs if line.reply_count]

    @property
    def other_microcredits(self) -> int:
        """What the ledger charged beyond all these, because channels moved in or out."""
        explained = self.report.total.charged_microcredits + self.drafts_microcredits
        return self.statement.sums.charged - explained


@member_page()
def list_months(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the account's months, newest first."""
    now, account_id, zone = timezone.now(), member.account.id, member.account.time_zone
    # First, because it books the expiry of ended grants.
    balance = get_balance(account_id=account_id, now=now, zone=zone)
    newest = parse_month(request.GET.get("until", ""))
    with snapshot():
        page = statements.list_statements(
            account_id=account_id,
            balance=balance,
            now=now,
            newest=newest or _NO_LIMIT,
            zone=zone,
        )
    return render_page(
        request,
        member,
        "statements.html",
        title=_("Statements"),
        balance=balance,
        rows=[_describe(one) for one in page.statements],
        next_month=page.next_month,
        is_first=newest is None,
    )


@member_page()
def show_month(request: HttpRequest, member: Member, month: str) -> HttpResponse:
    """Show one month: the sums, the charges by channel and model, and every other entry."""
    figures = _read(member.account, month)
    statement = figures.statement
    movements = statements.list_movements(
        account_id=member.account.id, statement=statement, most=MOVEMENTS_SHOWN + 1
    )
    return render_page(
        request,
        member,
        "statement.html",
        title=_("Statement of %(month)s")
        % {"month": dates.show(date(statement.month.year, statement.month.number, 1), "F Y")},
        balance=figures.balance,
        row=_describe(statement),
        charges=_describe_charges(member, figures),
        drafts=_describe_drafts(member, figures),
        total=_describe_total(member, figures),
        other=local_credits(figures.other_microcredits) if figures.other_microcredits else "",
        movements=[_describe_movement(one) for one in movements[:MOVEMENTS_SHOWN]],
        is_cut=len(movements) > MOVEMENTS_SHOWN,
        now=timezone.now(),
    )


@member_page()
def export_month(request: HttpRequest, member: Member, month: str) -> HttpResponseBase:
    """Download one month. Its lines add up to the closing balance."""
    figures = _read(member.account, month)
    rows = _csv_rows(member.account, figures)
    return csv_response(f"statement-{figures.statement.month}.csv", CSV_HEADER, rows)


def iterate_files(account: Account) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield the name and the lines of each month's file, newest first."""
    newest: Month | None = _NO_LIMIT
    while newest:
        now = timezone.now()
        balance = get_balance(account_id=account.id, now=now)
        with snapshot():
            page = statements.list_statements(
                account_id=account.id,
                balance=balance,
                now=now,
                newest=newest,
                zone=account.time_zone,
            )
        for one in page.statements:
            rows = _csv_rows(account, _read(account, str(one.month)))
            db.release_connection()
            yield f"{one.month}.csv", lines(CSV_HEADER, rows)
        newest = page.next_month


def _read(account: Account, text: str) -> MonthlyFigures:
    """Return a month's figures from one snapshot. Raises Http404 if it has no statement."""
    now, account_id = timezone.now(), account.id
    month = parse_month(text)
    if month is None:
        raise Http404
    zone = account.time_zone
    balance = get_balance(account_id=account_id, now=now, zone=zone)
    scope = Scope(account_id, *bounds_of(month, zone), zone=zone)
    with snapshot():
        statement = statements.find_statement(
            account_id=account_id, balance=balance, now=now, month=month, zone=zone
        )
        if statement is None:
            raise Http404
        report = reports.get_report(scope, with_durations=False)
        drafts = reports.sum_drafts(scope)
    return MonthlyFigures(statement, scope, report, balance, *drafts)


# --- Words --------------------------------------------------------------------------------------


def _describe(statement: Statement) -> dict[str, Any]:
    sums: Sums = statement.sums
    starts_at, ends_at = statement.bounds
    return {
        "month": statement.month,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "is_open": statement.is_open,
        "opening": local_credits(sums.opening),
        "granted": _signed(sums.granted),
        "adjusted": _signed(sums.adjusted),
        "expired": _signed(-sums.expired),
        "charged": _signed(-sums.charged),
        "closing": local_credits(sums.closing),
    }


def _signed(microcredits: int) -> str:
    return f"{'+' if microcredits > 0 else ''}{local_credits(microcredits)}"


def _names(account: Account) -> dict[Any, str]:
    return dict(Channel.objects.filter(account=account).values_list("id", "name"))


def _describe_charges(member: Member, figures: MonthlyFigures) -> list[dict[str, Any]]:
    channels, models = _names(member.account), read_model_names()
    return [
        {
            "channel": channels.get(channel_id, "?"),
            "model": models.get(model_id, model_id) or _("(unknown)"),
            "model_id": model_id,
            "replies": line.reply_count,
            "credits": line.credits,
            # The log can filter only by what it knows.
            "url": _replies_url(member, figures, channel_id, model_id)
            if model_id and channel_id in channels
            else "",
        }
        for line in figures.charges
        for channel_id, model_id in [line.key]
    ]


def _describe_drafts(member: Member, figures: MonthlyFigures) -> dict[str, Any]:
    return {
        "count": figures.draft_count,
        "credits": local_credits(figures.drafts_microcredits),
        "url": f"{member.url('drafts')}?{log_query(figures.scope)}",
    }


def _describe_total(member: Member, figures: MonthlyFigures) -> dict[str, Any]:
    """Return the sum of the lines, which is what the statement says was charged."""
    return {
        "replies": figures.report.total.reply_count + figures.draft_count,
        "credits": local_credits(figures.statement.sums.charged),
        # The log of replies has no drafts.
        "url": "" if figures.draft_count else _replies_url(member, figures),
    }


def _replies_url(
    member: Member,
    figures: MonthlyFigures,
    channel_id: uuid.UUID | None = None,
    model_id: str = "",
) -> str:
    """Return the log of the month's replies, of all or of one channel and model."""
    scope = replace(figures.scope, channel_id=channel_id, model_id=model_id)
    return log_links(member, scope)["answered"]


def _describe_movement(movement: Movement) -> dict[str, Any]:
    return {
        "movement": movement,
        "reason": words_of_reason(movement.reason),
        "change": _signed(movement.change),
        "is_added": movement.change > 0,
    }


def _csv_rows(account: Account, figures: MonthlyFigures) -> Iterator[tuple[Any, ...]]:
    statement, sums = figures.statement, figures.statement.sums
    yield _balance_line("opening balance", sums.opening)
    movements = statements.iterate_movements(account_id=account.id, statement=statement)
    for one in movements:
        at = one.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        change = format_credits(one.change)
        yield (one.kind, at, "", "", "", change, one.reason, one.reference)
    names = _names(account)
    db.release_connection()
    for line in figures.charges:
        channel_id, model_id = line.key
        change = format_credits(-line.charged_microcredits)
        yield (
            "charges", "", names.get(channel_id, "?"), model_id, line.reply_count, change, "", "",
        )  # fmt: skip
    if figures.draft_count:
        change = format_credits(-figures.drafts_microcredits)
        yield ("drafts", "", "", "", figures.draft_count, change, "Playground drafts", "")
    if other := figures.other_microcredits:
        reason = "Channels moved to or from another account"
        yield ("other charges", "", "", "", "", format_credits(-other), reason, "")
    yield _balance_line("closing balance", sums.closing)


def _balance_line(line: str, microcredits: int) -> tuple[Any, ...]:
    return (line, "", "", "", "", format_credits(microcredits), "", "")


urlpatterns = [
    path("statements/", list_months, name="statements"),
    path("statements/<str:month>/", show_month, name="statement"),
    path("statements/<str:month>/statement.csv", export_month, name="statement_csv"),
]

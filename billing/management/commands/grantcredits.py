"""Adds credits to an account."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from billing import grants
from billing.errors import ReferenceReused
from billing.models import MAX_REASON, MAX_REFERENCE, CreditGrant
from channels import accounts
from channels.errors import UnknownAccount
from common.commands import ScriptCommand, clear_errors, credits_argument, time_argument
from common.money import format_credits


class Command(ScriptCommand):
    help = "Add credits to an owner's account. Each reference grants only once."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--owner", required=True, metavar="EMAIL")
        parser.add_argument("--amount", required=True, type=credits_argument)
        parser.add_argument("--reason", required=True)
        parser.add_argument("--reference", default="")
        parser.add_argument("--category", choices=CreditGrant.Category.values, default="purchase")
        parser.add_argument(
            "--expires-at", type=time_argument, help="when they expire: 2027-01-31T00:00:00Z"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["amount"] <= 0:
            raise CommandError("--amount must be more than 0.")
        for name, longest in (("reason", MAX_REASON), ("reference", MAX_REFERENCE)):
            if len(options[name]) > longest:
                raise CommandError(f"--{name} must be at most {longest} characters long.")
        with clear_errors(ReferenceReused, UnknownAccount, ValueError):
            account = accounts.get_account(owner_email=options["owner"])
            entry, is_new = grants.grant_credits(
                account=account,
                amount_microcredits=options["amount"],
                reason=options["reason"],
                actor="command line",
                reference=options["reference"] or None,
                category=options["category"],
                expires_at=options["expires_at"],
            )
        result = {
            "entry": entry.sequence,
            "granted": is_new,
            "amount": format_credits(entry.amount_microcredits),
            "balance_after": format_credits(entry.balance_after_microcredits),
        }
        text = "Granted" if is_new else "Granted before under this reference"
        self.report(
            options, result, f"{text}: {result['amount']}, balance after: {result['balance_after']}"
        )

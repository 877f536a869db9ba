"""E-mail warnings to an account's owners: at a low balance, and at an empty one.

A periodic task looks for accounts whose balance fell below their last warning. Requests send and
queue nothing, so a broker or mail server that is down costs a minute's delay, never a reply.
"""

from __future__ import annotations

import logging
from enum import IntEnum

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F, Min, Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from billing.models import CreditAccount
from channels import audit
from channels.audit import Actor
from channels.models import Account, Membership
from common import languages
from common.money import show_credits
from common.pages.numbers import local_credits
from common.text import one_line

logger = logging.getLogger("gateway.billing")


class Warned(IntEnum):
    """The owners' last warning. A grant well above the threshold resets it."""

    NOTHING = 0
    LOW = 1
    EMPTY = 2


_SUBJECTS = {
    Warned.LOW: _("Credits are running low: %(account)s"),
    Warned.EMPTY: _("Credits are used up: %(account)s"),
}
_TEXTS = {
    Warned.LOW: _(
        "The account “%(account)s” has %(available)s credits left, below your warning threshold "
        "of %(threshold)s.\n\nIts channels stop answering once they are used up. Add credits soon."
    ),
    Warned.EMPTY: _(
        "The account “%(account)s” has %(available)s credits left, which cannot pay for another "
        "message. Its channels answer “credits_exhausted” until credits are added."
    ),
}


@transaction.atomic
def set_low_balance(*, account: Account, threshold_microcredits: int, actor: Actor) -> None:
    """Set the balance below which owners are warned. 0 means: only when it is empty."""
    CreditAccount.objects.bulk_create([CreditAccount(account=account)], ignore_conflicts=True)
    row = CreditAccount.objects.select_for_update().get(account=account)
    before, row.low_balance_microcredits = row.low_balance_microcredits, threshold_microcredits
    if before == threshold_microcredits:
        return
    available = row.balance_microcredits - row.held_microcredits
    # No longer low by the new threshold, so falling below it must warn again.
    warned = row.warned if available < threshold_microcredits else Warned.NOTHING
    CreditAccount.objects.filter(account=account).update(
        low_balance_microcredits=threshold_microcredits, warned=warned
    )
    changes = {"warn below": (show_credits(before), show_credits(threshold_microcredits))}
    audit.record("credits.warning_changed", actor=actor, account_id=account.id, changes=changes)


def warn_of_low_balances() -> int:
    """Send each due warning once. Returns how many were sent."""
    return sum(
        _warn(account, level)
        for level in (Warned.EMPTY, Warned.LOW)
        for account in _accounts_due(level)
    )


def _accounts_due(level: Warned) -> list[CreditAccount]:
    available = F("balance_microcredits") - F("held_microcredits")
    # The cheapest reply of the account's channels. Less than that can buy nothing.
    cheapest = Coalesce(Min("account__channels__model__price_per_reply_microcredits"), 0)
    accounts = CreditAccount.objects.filter(warned__lt=level, entry_count__gt=0).annotate(
        available=available, cheapest=cheapest
    )
    if level == Warned.EMPTY:
        accounts = accounts.filter(Q(available__lte=0) | Q(available__lt=F("cheapest")))
    else:
        accounts = accounts.filter(available__lt=F("low_balance_microcredits"))
    return list(accounts.select_related("account"))


def _warn(credit_account: CreditAccount, level: Warned) -> bool:
    """Mark the account as warned and send the e-mail. If that fails, unmark the account."""
    account = credit_account.account
    owners = Membership.objects.filter(account=account, role=Membership.Role.OWNER)
    people = list(owners.values_list("user__email", "user__language"))
    available = credit_account.balance_microcredits - credit_account.held_microcredits
    row = CreditAccount.objects.filter(account_id=account.id)
    # Of two tasks at once only one changes the row, and only that one sends.
    if not row.filter(warned__lt=level).update(warned=level):
        return False
    try:
        for language, addresses in languages.group_by_language(people).items():
            with languages.speaking(language):
                named = {
                    "account": one_line(account.name),
                    "available": local_credits(available),
                    "threshold": local_credits(credit_account.low_balance_microcredits),
                }
                subject = str(_SUBJECTS[level]) % named
                send_mail(subject, str(_TEXTS[level]) % named, None, addresses)
    except OSError as error:
        # The mail server is down; the next run tries again.
        row.filter(warned=level).update(warned=credit_account.warned)
        logger.warning("billing.warning.not_sent", extra={"reason": str(error)})
        return False
    logger.info("billing.warning.sent", extra={"account": account.id, "warned_of": level.name})
    return True

"""Balances, the ledger, what was granted, and checks of all of it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models import Account
from common.pages import dates

MAX_REASON = 200
MAX_REFERENCE = 100
MAX_NOTE = 500


class CreditAccount(models.Model):
    """An account's balance, and how much of it calls in flight hold. The first grant creates it."""

    account = models.OneToOneField(
        Account, models.PROTECT, primary_key=True, related_name="credit_account"
    )
    balance_microcredits = models.BigIntegerField(default=0)
    held_microcredits = models.BigIntegerField(default=0)
    # The number of the latest ledger entry. An account's entries are numbered without gaps.
    entry_count = models.BigIntegerField(default=0)
    # Total charged or deducted, and how much of it was allocated to grants. Which grant pays is
    # decided when it matters, not with every charge (billing/grants.py).
    spent_microcredits = models.BigIntegerField(default=0)
    allocated_microcredits = models.BigIntegerField(default=0)
    # When the next grant ends. Admission checks it, so that no clean-up job has to run on time.
    next_expiry_at = models.DateTimeField(null=True, blank=True)
    low_balance_microcredits = models.BigIntegerField(_("warn below"), default=10_000_000)
    warned = models.SmallIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(held_microcredits__gte=0),
                name="billing_creditaccount_held_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(balance_microcredits__gte=F("held_microcredits")),
                name="billing_creditaccount_never_oversold",
            ),
            models.CheckConstraint(
                condition=Q(allocated_microcredits__gte=0)
                & Q(spent_microcredits__gte=F("allocated_microcredits")),
                name="billing_creditaccount_allocated_within_spent",
            ),
        ]

    def __str__(self) -> str:
        return gettext("Credits of %(account)s") % {"account": self.account}


class Book(models.TextChoices):
    """The books that credits move between. Each entry takes from one and gives to another."""

    ISSUANCE = "issuance", _("Issued by the operator")
    CUSTOMER = "customer", _("Customer's balance")
    REVENUE = "revenue", _("Earned by the operator")
    ABSORBED = "absorbed", _("Borne by the operator")


class LedgerEntry(models.Model):
    """One movement of credits. The same amount leaves `debit` and enters `credit`.

    Entries are appended, never edited: the database refuses UPDATE and DELETE. A new entry corrects
    a mistake.
    """

    class Kind(models.TextChoices):
        GRANT = "grant", _("Grant")
        CHARGE = "charge", _("Charge")
        ADJUSTMENT = "adjustment", _("Adjustment")
        EXPIRY = "expiry", _("Expiry of a grant")
        ABSORBED = "absorbed", _("Loss borne by the operator")

    # Needs no index: the sequence's index begins with it.
    credit_account = models.ForeignKey(
        CreditAccount, models.PROTECT, related_name="entries", db_index=False
    )
    sequence = models.BigIntegerField()
    kind = models.CharField(max_length=12, choices=Kind.choices)
    debit = models.CharField(_("from"), max_length=12, choices=Book.choices)
    credit = models.CharField(_("to"), max_length=12, choices=Book.choices)
    amount_microcredits = models.BigIntegerField()
    balance_after_microcredits = models.BigIntegerField()
    reason = models.CharField(max_length=MAX_REASON)
    actor = models.CharField(max_length=254, blank=True)
    reference = models.CharField(max_length=MAX_REFERENCE, null=True, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # The captured hold. The reply that it paid for has the same id.
    hold_id = models.UUIDField(null=True, blank=True, unique=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = _("ledger entries")
        indexes: ClassVar = [
            # The few entries that change the balance but are not charges. With these, and the
            # balances that entries carry, charges are summed without reading them (charges.py).
            models.Index(
                fields=["credit_account", "sequence"],
                condition=~Q(kind__in=("absorbed", "charge")),
                name="billing_ledgerentry_no_charges",
            )
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["credit_account", "sequence"], name="billing_ledgerentry_sequence_unique"
            ),
            models.UniqueConstraint(
                fields=["credit_account", "reference"],
                condition=Q(reference__isnull=False),  # charges, nearly all entries, have none
                name="billing_ledgerentry_reference_unique",
            ),
            models.CheckConstraint(
                condition=Q(amount_microcredits__gt=0), name="billing_ledgerentry_amount_positive"
            ),
            models.CheckConstraint(
                condition=~Q(debit=F("credit")), name="billing_ledgerentry_moves_between_books"
            ),
            models.CheckConstraint(
                condition=Q(balance_after_microcredits__gte=0),
                name="billing_ledgerentry_balance_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return gettext("%(kind)s %(number)s of %(account)s") % {
            "kind": gettext(self.kind),
            "number": self.sequence,
            "account": self.credit_account_id,
        }


class CreditGrant(models.Model):
    """Granted credits, which may expire. The grant that ends first is spent first."""

    class Category(models.TextChoices):
        PURCHASE = "purchase", _("Purchase")
        PROMOTION = "promotion", _("Promotion")
        ADJUSTMENT = "adjustment", _("Adjustment")

    credit_account = models.ForeignKey(CreditAccount, models.PROTECT, related_name="grants")
    entry = models.OneToOneField(LedgerEntry, models.PROTECT, related_name="grant")
    category = models.CharField(max_length=10, choices=Category.choices)
    amount_microcredits = models.BigIntegerField()
    # What is left after the charges allocated so far.
    remaining_microcredits = models.BigIntegerField()
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["credit_account", "expires_at"],
                condition=Q(remaining_microcredits__gt=0),
                name="billing_creditgrant_unspent",
            )
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(
                    remaining_microcredits__gte=0,
                    remaining_microcredits__lte=F("amount_microcredits"),
                ),
                name="billing_creditgrant_remaining_within_amount",
            )
        ]

    def __str__(self) -> str:
        return f"{gettext(self.category)} {self.pk}"


class VerificationRun(models.Model):
    """One nightly verification of the ledger, kept for the staff."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    entry_count = models.BigIntegerField()
    difference_count = models.IntegerField()
    details = models.JSONField(default=list)

    class Meta:
        get_latest_by = "started_at"

    def __str__(self) -> str:
        return gettext("%(count)s differences at %(time)s") % {
            "count": self.difference_count,
            "time": dates.show(self.started_at, "j M Y, H:i"),
        }

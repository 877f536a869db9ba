"""Credits as whole micro-credits, and the counters of limits.

The database enforces the most important rules: a balance is never negative and never below what is
held, and ledger entries are neither changed nor deleted (triggers of migration 0002). Everything
else is in settlement.py.
"""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models import Account, AccountKey, ApiKey, Channel, User
from common.db import uuid7
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


class RedemptionCode(models.Model):
    """A code that grants credits once to each account that redeems it, while it is valid.

    The ledger enforces once per account: the grant's reference is unique.
    """

    # In plain text, only on a row just created. Not a database field.
    code: str = ""
    # The digest finds a code that is typed; the ciphertext lets it be digested again. The code is
    # shown once, when it is created, and then only by its last four letters.
    code_digest = models.CharField(max_length=64, unique=True, editable=False)
    pepper_id = models.CharField(max_length=12, default="", db_default="", editable=False)
    code_ciphertext = models.BinaryField(null=True, editable=False)
    encryption_key_id = models.CharField(max_length=32, default="", db_default="", editable=False)
    code_last_four = models.CharField(max_length=4, default="", db_default="", editable=False)
    amount_microcredits = models.BigIntegerField()
    max_redemptions = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1)])
    redeemed_count = models.PositiveIntegerField(default=0, editable=False)
    # Until when the code can be redeemed, and how long its credits last after that.
    valid_until = models.DateTimeField(null=True, blank=True)
    credits_last_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Leave empty for no end."),
    )
    note = models.CharField(max_length=200, blank=True)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    created_by = models.ForeignKey(
        User, models.SET_NULL, null=True, related_name="+", editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(amount_microcredits__gt=0), name="billing_redemptioncode_positive"
            ),
            models.CheckConstraint(
                condition=Q(redeemed_count__lte=F("max_redemptions")),
                name="billing_redemptioncode_never_oversold",
            ),
        ]

    def __str__(self) -> str:
        return self.masked

    @property
    def masked(self) -> str:
        """The code in a form that may be shown anywhere: `…HC4P`."""
        return f"…{self.code_last_four}"


class CreditRequest(models.Model):
    """An owner's request for credits, until the staff decide or the owner withdraws it.

    An account has at most one open request. A granted one has exactly one ledger entry, whose
    reference is `reference`.
    """

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        APPROVED = "approved", _("Approved")
        DECLINED = "declined", _("Declined")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    class Mail(models.TextChoices):
        NONE = "", _("None")
        TO_STAFF = "staff", _("To the staff")
        TO_ASKER = "asker", _("To the person who asked")

    account = models.ForeignKey(Account, models.PROTECT, related_name="credit_requests")
    amount_microcredits = models.BigIntegerField()
    note = models.CharField(max_length=MAX_NOTE, blank=True)
    # The form that asked. The same form, sent again, finds this request.
    token = models.UUIDField(default=uuid.uuid4, editable=False)
    asked_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    state = models.CharField(max_length=9, choices=State.choices, default=State.OPEN)
    decided_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    # The account's owners read it.
    decision_reason = models.CharField(max_length=MAX_REASON, blank=True)
    # The staff may grant another amount than was asked for.
    granted_microcredits = models.BigIntegerField(null=True)
    entry = models.OneToOneField(
        LedgerEntry, models.PROTECT, null=True, related_name="credit_request"
    )
    # The e-mail that the worker has yet to send (credit_request_mails.py).
    unsent_mail = models.CharField(max_length=5, choices=Mail.choices, blank=True)
    created_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["id"], condition=~Q(unsent_mail=""), name="billing_creditrequest_unsent"
            )
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account"], condition=Q(state="open"), name="billing_creditrequest_one_open"
            ),
            models.UniqueConstraint(
                fields=["account", "token"], name="billing_creditrequest_token_unique"
            ),
            models.CheckConstraint(
                condition=Q(amount_microcredits__gt=0), name="billing_creditrequest_positive"
            ),
            models.CheckConstraint(
                condition=Q(state="approved", granted_microcredits__gt=0)
                | Q(~Q(state="approved"), granted_microcredits=None, entry=None),
                name="billing_creditrequest_granted_if_approved",
            ),
            models.CheckConstraint(
                condition=Q(state="open", decided_at=None)
                | Q(~Q(state="open"), decided_at__isnull=False),
                name="billing_creditrequest_decided_or_open",
            ),
        ]

    def __str__(self) -> str:
        return gettext("Request %(number)s of %(account)s") % {
            "number": self.pk,
            "account": self.account,
        }

    @property
    def reference(self) -> str:
        """The reference of the entry that grants it. The ledger takes a reference once."""
        return f"request-{self.pk}"


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


class Hold(models.Model):
    """The admission of one message: its count in the day's quota, and the credits held for it.

    An expired hold counts as released, whether or not anything has released it yet.
    """

    class State(models.TextChoices):
        HELD = "held", _("Held")
        CAPTURED = "captured", _("Captured")
        RELEASED = "released", _("Released")
        EXPIRED = "expired", _("Expired")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Read by id, or while open. One partial index is enough, because each message writes a hold. No
    # foreign key constraints: the day's row, counted with each hold, ties channel and account
    # together in the database (docs/decisions/0023).
    account = models.ForeignKey(
        Account, models.PROTECT, related_name="holds", db_index=False, db_constraint=False
    )
    channel = models.ForeignKey(
        Channel, models.PROTECT, related_name="holds", db_index=False, db_constraint=False
    )
    is_test = models.BooleanField()
    day = models.DateField()
    amount_microcredits = models.BigIntegerField()
    captured_microcredits = models.BigIntegerField(default=0)
    state = models.CharField(max_length=8, choices=State.choices, default=State.HELD)
    request_id = models.CharField(max_length=128, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    # The key of the call. None in the playground, and for calls older than this column.
    key_id = models.UUIDField(null=True, blank=True)
    # What counts against the spend caps of the channel and of the key, and when.
    cap_day = models.DateField(null=True, blank=True)
    cap_month = models.DateField(null=True, blank=True)
    channel_capped_microcredits = models.BigIntegerField(default=0, db_default=0)
    key_capped_microcredits = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        indexes: ClassVar = [
            # Only the few holds in flight. Admission looks through them for expired ones.
            models.Index(
                fields=["account", "expires_at"],
                condition=Q(state="held"),
                name="billing_hold_open",
            ),
        ]
        constraints: ClassVar = [
            # This also keeps the amount from being negative.
            models.CheckConstraint(
                condition=Q(
                    captured_microcredits__gte=0,
                    captured_microcredits__lte=F("amount_microcredits"),
                ),
                name="billing_hold_captured_within_amount",
            ),
        ]

    def __str__(self) -> str:
        return gettext("%(state)s hold %(id)s") % {"state": gettext(self.state), "id": self.id}


class DailyUsage(models.Model):
    """How many messages a channel has sent on a UTC day; test keys are counted separately.

    Written with each hold, in one statement. This row ties holds and messages to their channel.
    """

    channel = models.ForeignKey(Channel, models.PROTECT, related_name="daily_usage", db_index=False)
    is_test = models.BooleanField()
    day = models.DateField()
    message_count = models.IntegerField(default=0)
    # How often the channel or one of its keys got its first spend cap. An admission that began
    # before sees that it changed, and begins again (admission.py).
    cap_changes = models.IntegerField(default=0, db_default=0)

    class Meta:
        verbose_name_plural = _("daily usage")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "is_test", "day"], name="billing_dailyusage_unique"
            ),
            models.CheckConstraint(
                condition=Q(message_count__gte=0), name="billing_dailyusage_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return gettext("%(channel)s on %(day)s") % {"channel": self.channel, "day": self.day}


class SpendCap(models.Model):
    """What a channel or one of its keys may still spend in its day and its month, in one row.

    `id` is that of the channel or of the key. What is left includes what calls in flight hold, so a
    hold takes from it and its end gives back. If a limit is None, `…_left` is NO_LIMIT.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="spend_caps")
    key = models.OneToOneField(
        ApiKey, models.CASCADE, null=True, blank=True, related_name="spend_cap"
    )
    day_limit_microcredits = models.BigIntegerField(null=True, blank=True)
    month_limit_microcredits = models.BigIntegerField(null=True, blank=True)
    # The day and the first day of the month that the figures are about.
    day = models.DateField()
    month = models.DateField()
    day_left_microcredits = models.BigIntegerField()
    month_left_microcredits = models.BigIntegerField()
    # Whether what was spent before the row existed is counted.
    is_complete = models.BooleanField(default=False, db_default=False)
    # The highest percentage of which the owners know: 0, 50, 80, or 100.
    day_alerted = models.SmallIntegerField(default=0, db_default=0)
    month_alerted = models.SmallIntegerField(default=0, db_default=0)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(day_left_microcredits__gte=0, month_left_microcredits__gte=0),
                name="billing_spendcap_not_overspent",
            ),
        ]

    def __str__(self) -> str:
        of = gettext("cap of key %(id)s") if self.key_id else gettext("cap of channel %(id)s")
        return of % {"id": self.id}


class RateWindow(models.Model):
    """The requests of the last minute by second, in one row (see throttling.py)."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="+", db_index=False)
    bucket = models.CharField(max_length=12)
    second = models.BigIntegerField()
    total = models.BigIntegerField()
    history = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["channel", "bucket"], name="billing_ratewindow_unique"),
        ]

    def __str__(self) -> str:
        return gettext("%(bucket)s of %(id)s") % {"bucket": self.bucket, "id": self.channel_id}


class AccountKeyWindow(models.Model):
    """The requests of the last minute that an account key made (see throttling.py)."""

    key = models.ForeignKey(AccountKey, models.CASCADE, related_name="+", db_index=False)
    bucket = models.CharField(max_length=12)
    second = models.BigIntegerField()
    total = models.BigIntegerField()
    history = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["key", "bucket"], name="billing_accountkeywindow_unique"
            ),
        ]

    def __str__(self) -> str:
        return gettext("%(bucket)s of %(id)s") % {"bucket": self.bucket, "id": self.key_id}

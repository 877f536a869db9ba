"""How credits are added: codes to redeem, and requests to the operator."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from billing.models.ledger import MAX_NOTE, MAX_REASON, LedgerEntry
from channels.models import Account, User


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

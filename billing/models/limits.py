"""What bounds calls: holds, days, spend caps, and minutes."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models import Account, AccountKey, ApiKey, Channel
from common.db import uuid7


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

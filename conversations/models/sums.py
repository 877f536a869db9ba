"""Kept sums of usage."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from channels.models import Channel


class UsageRollup(models.Model):
    """Sums of a channel's usage in a finished hour or UTC day. The messages are authoritative.

    Replies have one row for each model, failures one for each model and error code. usage/rollup.py
    creates and corrects the rows, usage/rows.py reads them. Without them, the messages themselves
    yield the same figures.
    """

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="+", db_index=False)
    starts_at = models.DateTimeField()
    is_day = models.BooleanField()
    is_test = models.BooleanField()
    request_model = models.CharField(max_length=100, blank=True)
    error_code = models.CharField(max_length=50, blank=True)
    request_count = models.BigIntegerField()
    estimated_count = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    charged_microcredits = models.BigIntegerField()
    # How many replies took how long, in milliseconds, rounded up (usage/sums.py).
    durations = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=[
                    "channel", "starts_at", "is_day", "is_test", "request_model", "error_code",
                ],
                name="conversations_usagerollup_unique",
            )
        ]  # fmt: skip
        indexes: ClassVar = [
            # For writing, correcting, and deleting the rows of an hour or day.
            models.Index(fields=["starts_at"], name="conversations_rollup_time"),
        ]

    def __str__(self) -> str:
        return f"usage of {self.channel_id} from {self.starts_at:%Y-%m-%d %H:%M}"


class ProviderDay(models.Model):
    """What a provider and a model answered on a UTC day, for all accounts together.

    Live replies and replies to drafts. usage/provider_days.py adds each finished hour.
    """

    day = models.DateField()
    provider_name = models.CharField(max_length=50, blank=True)
    request_model = models.CharField(max_length=100, blank=True)
    request_count = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cached_input_tokens = models.BigIntegerField()
    charged_microcredits = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["day", "provider_name", "request_model"],
                name="conversations_providerday_unique",
            )
        ]

    def __str__(self) -> str:
        return f"{self.request_model} at {self.provider_name} on {self.day}"


class RollupProgress(models.Model):
    """The single row that says what is rolled up. Missing before the first run.

    Days are rolled up from the first one with messages to before `days_until`, hours from
    `hours_from` to before `hours_until`.
    """

    days_until = models.DateTimeField()
    hours_from = models.DateTimeField()
    hours_until = models.DateTimeField()
    # Up to when replies are in the providers' days. None before the first run.
    providers_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = _("rollup progress")

    def __str__(self) -> str:
        return f"rolled up until {self.hours_until:%Y-%m-%d %H:%M}"

"""Sessions and their messages."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxLengthValidator
from django.db import models
from django.db.models import Q

from channels.models import Channel, User
from common.ids import uuid7


class ChatSession(models.Model):
    """One conversation: a channel and the caller's session id, from first message to expiry.

    The same session id starts a new row once this one is closed or has expired. The row is also
    the lease that lets one turn at a time run (conversations/turns.py).
    """

    # No index of its own: that of the latest begins with it.
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="sessions", db_index=False)
    is_test = models.BooleanField()
    session_id = models.CharField(max_length=255)
    created_at = models.DateTimeField()
    last_message_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    message_count = models.IntegerField(default=0)
    # Who runs the present turn: the number grows with each turn and fences off late writers.
    lease_number = models.BigIntegerField(default=0)
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "is_test", "session_id"],
                condition=Q(closed_at=None),
                name="conversations_chatsession_one_open",
            )
        ]
        indexes: ClassVar = [
            # What lists read, channel by channel. Each turn writes it.
            models.Index(
                fields=["channel", "last_message_at"], name="conversations_session_latest"
            ),
        ]

    def __str__(self) -> str:
        return self.session_id


class WaitingTurn(models.Model):
    """A message that waits for the turns before it; lower ids go first."""

    session = models.ForeignKey(ChatSession, models.CASCADE, related_name="waiting_turns")
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"turn {self.pk} of session {self.session_id}"


class Message(models.Model):
    """What was said. A turn is a user's message and the assistant's reply, stored together.

    A reply without a session is one of /v1: it keeps the books, and no text.
    """

    class Role(models.TextChoices):
        USER = "user", "User"
        ASSISTANT = "assistant", "Assistant"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Sessions are never deleted, and the day's row ties the channel down: neither needs a
    # constraint, which PostgreSQL would check for each of a turn's messages (docs/decisions/0023).
    session = models.ForeignKey(
        # No index of its own: that of the position begins with it.
        ChatSession,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="messages",
        db_index=False,
        db_constraint=False,
    )
    # The session's, again: usage is read by channel and time, without a join per session. Only
    # replies are looked for by it, and they have indexes below.
    channel = models.ForeignKey(
        Channel, models.CASCADE, related_name="messages", db_index=False, db_constraint=False
    )
    is_test = models.BooleanField()
    position = models.IntegerField()
    role = models.CharField(max_length=9, choices=Role.choices)
    content = models.TextField()
    created_at = models.DateTimeField()
    erased_at = models.DateTimeField(null=True, blank=True)

    # Of the user's message: the page the visitor was on.
    page_url = models.CharField(max_length=2048, blank=True)
    page_title = models.CharField(max_length=512, blank=True)

    # Of the assistant's reply, whose id is that of the hold that paid for it. Prices are those
    # it was charged at, in micro-credits.
    request_id = models.CharField(max_length=128, blank=True)
    request_model = models.CharField(max_length=100, blank=True)
    response_model = models.CharField(max_length=200, blank=True)
    provider_name = models.CharField(max_length=50, blank=True)
    finish_reason = models.CharField(max_length=200, blank=True)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    # Part of the input, part of the output; null where the provider does not tell.
    cached_input_tokens = models.BigIntegerField(null=True, blank=True)
    reasoning_tokens = models.BigIntegerField(null=True, blank=True)
    is_estimated = models.BooleanField(default=False)
    charged_microcredits = models.BigIntegerField(default=0)
    price_per_reply = models.BigIntegerField(default=0)
    price_per_1k_input = models.BigIntegerField(default=0)
    price_per_1k_output = models.BigIntegerField(default=0)
    # Null: cached input cost as much as any other.
    price_per_1k_cached_input = models.BigIntegerField(null=True, blank=True)
    duration_ms = models.IntegerField(default=0)
    # Which version of the channel's system prompt it was given under; 0 for older replies.
    prompt_version = models.IntegerField(default=0, db_default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["session", "position"], name="conversations_message_position_unique"
            ),
            models.CheckConstraint(
                condition=Q(session__isnull=False) | Q(role="assistant", content=""),
                name="conversations_message_stateless_has_no_text",
            ),
        ]
        indexes: ClassVar = [
            # With all that usage adds up: PostgreSQL then reads the narrow index alone, not a page
            # of the wide table for each reply. SQLite leaves the included columns out.
            models.Index(
                fields=["channel", "created_at"],
                include=[
                    "is_test",
                    "request_model",
                    "input_tokens",
                    "output_tokens",
                    "charged_microcredits",
                    "duration_ms",
                    # Of the join to the visitor's message, and so of pages.
                    "session",
                    "position",
                ],
                condition=Q(role="assistant"),
                name="conversations_message_figures",
            ),
            models.Index(
                fields=["channel", "request_id"],
                condition=Q(role="assistant"),
                name="conversations_message_receipt",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.position}"


class FailedRequest(models.Model):
    """A message that got no answer, and why. No text: what failed is not stored."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="failed_requests")
    is_test = models.BooleanField()
    session_id = models.CharField(max_length=255, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # The contract's code, as the caller got it, and what lay behind it: a provider's failure.
    error_code = models.CharField(max_length=50)
    reason = models.CharField(max_length=100, blank=True)
    request_model = models.CharField(max_length=100, blank=True)
    page_url = models.CharField(max_length=2048, blank=True)
    duration_ms = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["channel", "created_at"], name="conversations_failure_usage"),
            models.Index(fields=["created_at"], name="conversations_failure_age"),
        ]

    def __str__(self) -> str:
        return f"{self.error_code} at {self.created_at:%Y-%m-%d %H:%M}"


class Feedback(models.Model):
    """What the team thinks of a reply."""

    class Rating(models.IntegerChoices):
        DOWN = -1, "Disliked"
        NONE = 0, "Not rated"
        UP = 1, "Liked"

    message = models.OneToOneField(Message, models.CASCADE, related_name="feedback")
    rating = models.SmallIntegerField(choices=Rating.choices, default=Rating.NONE)
    note = models.TextField(max_length=2_000, blank=True, validators=[MaxLengthValidator(2_000)])
    author = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "feedback"

    def __str__(self) -> str:
        return f"{self.get_rating_display()} for {self.message_id}"


class IdempotencyRecord(models.Model):
    """A caller's Idempotency-Key: who is working on it, or what came of it.

    While the first request runs, `expires_at` ends its claim; afterwards, the time in which the
    stored body is replayed.
    """

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="+")
    is_test = models.BooleanField()
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    session_id = models.CharField(max_length=255)
    claim_number = models.BigIntegerField(default=1)
    claimed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    body = models.TextField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "is_test", "key"], name="conversations_idempotencyrecord_unique"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="conversations_idempotency_end"),
        ]

    def __str__(self) -> str:
        return self.key


class UsageRollup(models.Model):
    """What a channel used in an hour or a UTC day that is over: sums, of which messages are proof.

    Replies have a row for each model, failures one for each model and error code. Made and mended
    by rolling.py, read through rollups.py; without them the same figures come from each message.
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
    # How many replies took how long, in ms rounded up (figures.py).
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
            # What writes, mends and deletes the rows of a time.
            models.Index(fields=["starts_at"], name="conversations_rollup_time"),
        ]

    def __str__(self) -> str:
        return f"usage of {self.channel_id} from {self.starts_at:%Y-%m-%d %H:%M}"


class RollupProgress(models.Model):
    """The one row that says which hours and days are rolled up; none before the first time.

    Days from the first there is, hours from `hours_from`, each up to before its end.
    """

    days_until = models.DateTimeField()
    hours_from = models.DateTimeField()
    hours_until = models.DateTimeField()

    class Meta:
        verbose_name_plural = "rollup progress"

    def __str__(self) -> str:
        return f"rolled up until {self.hours_until:%Y-%m-%d %H:%M}"

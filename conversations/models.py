"""Sessions and their messages."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxLengthValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models import Account, Channel, User
from common.db import uuid7
from common.pages import dates


class ChatSession(models.Model):
    """One conversation: a channel and the caller's session id, from first message to expiry.

    The same session id starts a new row once this one is closed or expired. The row also holds the
    lease that lets only one turn run at a time (conversations/chat/turns.py).
    """

    # No index of its own: the one on the latest sessions begins with it.
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="sessions", db_index=False)
    is_test = models.BooleanField()
    session_id = models.CharField(max_length=255)
    created_at = models.DateTimeField()
    last_message_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    message_count = models.IntegerField(default=0)
    # The lease of the running turn. The number grows with each turn and fences off late writers.
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
            # For lists, which read channel by channel. Each turn writes to it.
            models.Index(
                fields=["channel", "last_message_at"], name="conversations_session_latest"
            ),
        ]

    def __str__(self) -> str:
        return self.session_id


class WaitingTurn(models.Model):
    """A message that waits for the turns before it. Lower ids go first."""

    session = models.ForeignKey(ChatSession, models.CASCADE, related_name="waiting_turns")
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return gettext("turn %(number)s of session %(session)s") % {
            "number": self.pk,
            "session": self.session_id,
        }


class Message(models.Model):
    """A message of a conversation.

    A turn is a user's message and the assistant's reply, stored together. A reply without a session
    comes from /v1: it keeps the books, but no text.
    """

    class Role(models.TextChoices):
        USER = "user", _("User")
        ASSISTANT = "assistant", _("Assistant")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Sessions are never deleted, and daily usage protects the channel. So neither key needs a
    # constraint, which PostgreSQL would check for each message of a turn (docs/decisions/0023).
    session = models.ForeignKey(
        # No index of its own: the one on the position begins with it.
        ChatSession,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="messages",
        db_index=False,
        db_constraint=False,
    )
    # A copy of the session's channel, because usage is read by channel and time, without a join for
    # each session. Only replies are searched by it, and they have the indexes below.
    channel = models.ForeignKey(
        Channel, models.CASCADE, related_name="messages", db_index=False, db_constraint=False
    )
    is_test = models.BooleanField()
    position = models.IntegerField()
    role = models.CharField(max_length=9, choices=Role.choices)
    content = models.TextField()
    created_at = models.DateTimeField()
    erased_at = models.DateTimeField(null=True, blank=True)

    # For the user's message: the page that the visitor was on.
    page_url = models.CharField(max_length=2048, blank=True)
    page_title = models.CharField(max_length=512, blank=True)

    # For the assistant's reply, whose id is the id of the hold that paid for it. Prices are those
    # that it was charged at, in micro-credits.
    request_id = models.CharField(max_length=128, blank=True)
    request_model = models.CharField(max_length=100, blank=True)
    response_model = models.CharField(max_length=200, blank=True)
    provider_name = models.CharField(max_length=50, blank=True)
    finish_reason = models.CharField(max_length=200, blank=True)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    # Included in the input and in the output. Null if the provider does not report them.
    cached_input_tokens = models.BigIntegerField(null=True, blank=True)
    reasoning_tokens = models.BigIntegerField(null=True, blank=True)
    is_estimated = models.BooleanField(default=False)
    charged_microcredits = models.BigIntegerField(default=0)
    price_per_reply = models.BigIntegerField(default=0)
    price_per_1k_input = models.BigIntegerField(default=0)
    price_per_1k_output = models.BigIntegerField(default=0)
    # Null if cached input cost as much as other input.
    price_per_1k_cached_input = models.BigIntegerField(null=True, blank=True)
    duration_ms = models.IntegerField(default=0)
    # The version of the channel's system prompt at the time. 0 for older replies.
    prompt_version = models.IntegerField(default=0, db_default=0)
    # The key that the request came with. Null for older replies and for the playground. Without a
    # constraint, which PostgreSQL would check for each reply.
    api_key_id = models.UUIDField(null=True, blank=True)
    # The saved reply that was given. Null for all others, and for those given before this field.
    # Without a constraint, and the saved reply may be gone.
    fixed_answer_id = models.BigIntegerField(null=True, blank=True)

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
            # Includes every column that usage sums, so PostgreSQL reads only this narrow index, and
            # not a page of the wide table for each reply. SQLite ignores the included columns.
            models.Index(
                fields=["channel", "created_at"],
                include=[
                    "is_test",
                    "request_model",
                    "input_tokens",
                    "output_tokens",
                    "charged_microcredits",
                    "duration_ms",
                    # For the join to the visitor's message, which has the page.
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
            # Counts the hits of saved replies. Other messages are not in it and do not pay for it.
            models.Index(
                fields=["fixed_answer_id", "created_at"],
                condition=Q(fixed_answer_id__isnull=False, is_test=False),
                name="conversations_message_saved",
            ),
        ]

    def __str__(self) -> str:
        return f"{gettext(self.role)} {self.position}"


class DraftReply(models.Model):
    """What a draft's reply used and cost (chat/drafts.py). No text, and not in visitors' figures.

    Its id is the id of the hold that paid for it. With an error code, it is a request that got no
    reply, and cost nothing.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    channel = models.ForeignKey(
        Channel, models.CASCADE, related_name="draft_replies", db_index=False
    )
    is_test = models.BooleanField()
    created_at = models.DateTimeField()
    request_id = models.CharField(max_length=128)
    request_model = models.CharField(max_length=100)
    provider_name = models.CharField(max_length=50)
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    charged_microcredits = models.BigIntegerField()
    # As in FailedRequest. Replies are stored without these columns.
    error_code = models.CharField(max_length=50, blank=True, default="", db_default="")
    reason = models.CharField(max_length=100, blank=True, default="", db_default="")

    class Meta:
        verbose_name_plural = _("draft replies")
        indexes: ClassVar = [
            models.Index(fields=["channel", "created_at"], name="conversations_draftreply_of"),
        ]

    def __str__(self) -> str:
        return gettext("draft reply by %(model)s") % {"model": self.request_model}


class FailedRequest(models.Model):
    """A message that got no answer, and why. Its text is not stored."""

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="failed_requests")
    is_test = models.BooleanField()
    session_id = models.CharField(max_length=255, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # The contract's code, as the caller saw it, and the reason behind a provider's failure.
    error_code = models.CharField(max_length=50)
    reason = models.CharField(max_length=100, blank=True)
    request_model = models.CharField(max_length=100, blank=True)
    page_url = models.CharField(max_length=2048, blank=True)
    duration_ms = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    api_key_id = models.UUIDField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["channel", "created_at"], name="conversations_failure_usage"),
            models.Index(fields=["created_at"], name="conversations_failure_age"),
            models.Index(fields=["channel", "request_id"], name="conversations_failure_receipt"),
        ]

    def __str__(self) -> str:
        return gettext("%(name)s at %(time)s") % {
            "name": self.error_code,
            "time": dates.show(self.created_at, "j M Y, H:i"),
        }


class ReplayedRequest(models.Model):
    """A retry that received the stored answer of an earlier request, at no charge.

    In a table of its own, because usage counts neither a reply nor an error for it.
    """

    # No index of its own: the one on the time begins with it.
    channel = models.ForeignKey(
        Channel, models.CASCADE, related_name="replayed_requests", db_index=False
    )
    is_test = models.BooleanField()
    session_id = models.CharField(max_length=255, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # The reply that was sent again. Null if the stored answer names none.
    message_id = models.UUIDField(null=True, blank=True)
    request_model = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField()
    api_key_id = models.UUIDField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["channel", "created_at"], name="conversations_replay_usage"),
            models.Index(fields=["created_at"], name="conversations_replay_age"),
            models.Index(fields=["channel", "request_id"], name="conversations_replay_receipt"),
        ]

    def __str__(self) -> str:
        return gettext("%(name)s at %(time)s") % {
            "name": self.request_id,
            "time": dates.show(self.created_at, "j M Y, H:i"),
        }


class Feedback(models.Model):
    """The team's rating of a reply, and a note."""

    class Rating(models.IntegerChoices):
        DOWN = -1, _("Disliked")
        NONE = 0, _("Not rated")
        UP = 1, _("Liked")

    message = models.OneToOneField(Message, models.CASCADE, related_name="feedback")
    rating = models.SmallIntegerField(choices=Rating.choices, default=Rating.NONE)
    note = models.TextField(max_length=2_000, blank=True, validators=[MaxLengthValidator(2_000)])
    author = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = _("feedback")

    def __str__(self) -> str:
        return gettext("%(rating)s for %(message)s") % {
            "rating": self.get_rating_display(),
            "message": self.message_id,
        }


class IdempotencyRecord(models.Model):
    """A caller's Idempotency-Key: the claim of the running request, or its stored answer.

    While the first request runs, its claim ends at `expires_at`. After that, the stored body is
    replayed until `expires_at`.
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


class ManagementRecord(models.Model):
    """An Idempotency-Key of /api/manage/: the claim of the running request, or its stored answer.

    Like IdempotencyRecord, for an account. The body holds no key in clear text: an answer that
    shows one is rendered from the key's ciphertext.
    """

    account = models.ForeignKey(Account, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    claim_number = models.BigIntegerField(default=1)
    claimed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    body = models.TextField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "key"], name="conversations_managementrecord_unique"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], name="conversations_management_end"),
        ]

    def __str__(self) -> str:
        return self.key


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

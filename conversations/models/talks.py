"""Sessions, their messages, and what is said of them."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxLengthValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models import Channel, User
from common.db import uuid7


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

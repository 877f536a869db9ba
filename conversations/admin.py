"""Staff pages for sessions, messages, failures, and feedback, read-only and without text."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display

from channels.admin.texts import TextAdmin
from channels.models import Channel
from common.days import day_of, start_of
from common.ids import first_uuid7
from common.money import show_credits
from common.pages.admin import BigTableAdmin
from conversations.models import (
    ChatSession,
    DraftReply,
    FailedRequest,
    Feedback,
    IdempotencyRecord,
    Message,
    ReplayedRequest,
    WaitingTurn,
)
from conversations.usage import pulse

_WithKey = ChatSession | Message | DraftReply | FailedRequest | ReplayedRequest | IdempotencyRecord
_KEYS = {"Live": "success", "Test": "info"}


class RecordAdmin(BigTableAdmin):
    """An admin page with a badge for the key: live or test."""

    @display(description="key", label=_KEYS)
    def mode(self, record: _WithKey) -> str:
        return "Test" if record.is_test else "Live"


class Since(admin.SimpleListFilter):
    """The latest rows. Links of the overview lead here."""

    title = "time"
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("hour", "The last hour"), ("today", "Today (UTC)")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        starts = {"hour": now - timedelta(hours=1), "today": start_of(day_of(now))}
        since = starts.get(self.value() or "")
        if since is None:
            return queryset
        if queryset.model is Message:  # whose index of times begins with the channel
            queryset = queryset.filter(id__gte=first_uuid7(since - pulse.LONGEST_REQUEST))
        return queryset.filter(created_at__gte=since)


@admin.register(ChatSession)
class ChatSessionAdmin(RecordAdmin):
    list_display = ("session_id", "channel", "mode", "message_count", "last_message_at")
    list_filter = ("is_test",)
    list_select_related = ("channel",)
    search_fields = ("session_id", "channel__name")
    ordering = ("-id",)


@admin.register(Message)
class MessageAdmin(TextAdmin, RecordAdmin):
    list_display = ("created_at", "channel", "who", "kept", "provider_name", "tokens", "charged")
    list_filter = (Since, "role", "is_test", "is_estimated")
    list_select_related = ("session", "channel")
    search_fields = ("request_id", "session__session_id")
    ordering = ("-id",)
    exclude = ("content", "page_url", "page_title")

    def texts_of(self, row: Message) -> list[tuple[str, str]]:
        if row.role == Message.Role.ASSISTANT:
            return [("Reply", row.content)]
        return [("Message", row.content), ("Page", f"{row.page_title}\n{row.page_url}".strip())]

    @display(description="role", label={"User": "info", "Assistant": "primary"})
    def who(self, message: Message) -> str:
        return message.get_role_display()

    @display(description="text")
    def kept(self, message: Message) -> str:
        if message.session_id is None:
            return "Not kept"
        return "Erased" if message.erased_at else "Kept"

    @display(description="tokens in / out")
    def tokens(self, message: Message) -> str:
        if message.role == Message.Role.USER:
            return "-"
        return f"{message.input_tokens:,} / {message.output_tokens:,}"

    @display(ordering="charged_microcredits")
    def charged(self, message: Message) -> str:
        return show_credits(message.charged_microcredits)


@admin.register(FailedRequest)
class FailedRequestAdmin(RecordAdmin):
    list_display = ("created_at", "channel", "mode", "error_code", "reason", "request_model")
    list_filter = (Since, "error_code", "is_test")
    list_select_related = ("channel",)
    search_fields = ("request_id", "session_id", "reason", "channel__name")
    ordering = ("-created_at",)


@admin.register(ReplayedRequest)
class ReplayedRequestAdmin(RecordAdmin):
    list_display = ("created_at", "channel", "mode", "request_id", "request_model")
    list_filter = ("is_test",)
    list_select_related = ("channel",)
    search_fields = ("request_id", "session_id", "channel__name")
    ordering = ("-created_at",)


@admin.register(Feedback)
class FeedbackAdmin(TextAdmin, RecordAdmin):
    list_display = ("updated_at", "thumb", "has_note", "author")
    list_filter = ("rating",)
    list_select_related = ("author",)
    ordering = ("-id",)
    exclude = ("note",)

    def texts_of(self, row: Feedback) -> list[tuple[str, str]]:
        return [("Note", row.note)]

    def channel_of(self, row: Feedback) -> Channel:
        return row.message.channel

    @display(description="note", boolean=True)
    def has_note(self, feedback: Feedback) -> bool:
        return bool(feedback.note)

    @display(description="rating", label={"Liked": "success", "Disliked": "danger"})
    def thumb(self, feedback: Feedback) -> str:
        return feedback.get_rating_display()


@admin.register(WaitingTurn)
class WaitingTurnAdmin(RecordAdmin):
    list_display = ("id", "session", "expires_at")
    list_select_related = ("session",)
    search_fields = ("session__session_id",)


@admin.register(DraftReply)
class DraftReplyAdmin(RecordAdmin):
    list_display = (
        "id", "channel", "mode", "request_model", "error_code", "charged_microcredits",
        "created_at",
    )  # fmt: skip
    list_filter = ("is_test", "error_code")
    list_select_related = ("channel",)
    search_fields = ("request_id", "channel__name")


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(RecordAdmin):
    """Idempotency keys, without the stored body: a conversation's text is read on its own page."""

    list_display = ("key", "channel", "mode", "claimed_at", "expires_at")
    list_filter = ("is_test",)
    list_select_related = ("channel",)
    search_fields = ("key", "session_id", "channel__name")
    fields = ("key", "channel", "is_test", "session_id", "claimed_at", "expires_at")

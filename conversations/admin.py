"""Staff pages of sessions, messages, failures and feedback, read-only."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from common.admin import BigTableAdmin
from common.money import show_credits
from conversations.models import (
    ChatSession,
    FailedRequest,
    Feedback,
    IdempotencyRecord,
    Message,
    WaitingTurn,
)

_KEYS = {"Live": "success", "Test": "info"}


class RecordAdmin(BigTableAdmin):
    """Whose key it was about, live or test, as a badge."""

    @display(description="key", label=_KEYS)
    def mode(self, record: ChatSession | Message | FailedRequest | IdempotencyRecord) -> str:
        return "Test" if record.is_test else "Live"


@admin.register(ChatSession)
class ChatSessionAdmin(RecordAdmin):
    list_display = ("session_id", "channel", "mode", "message_count", "last_message_at")
    list_filter = ("is_test",)
    list_select_related = ("channel",)
    search_fields = ("session_id", "channel__name")
    ordering = ("-id",)


@admin.register(Message)
class MessageAdmin(RecordAdmin):
    list_display = ("created_at", "channel", "who", "excerpt", "provider_name", "tokens", "charged")
    list_filter = ("role", "is_test", "is_estimated")
    list_select_related = ("session", "channel")
    search_fields = ("request_id", "session__session_id")
    ordering = ("-id",)

    @display(description="role", label={"User": "info", "Assistant": "primary"})
    def who(self, message: Message) -> str:
        return message.get_role_display()

    @display(description="text")
    def excerpt(self, message: Message) -> str:
        if message.session_id is None:
            return "(not kept)"
        return "(erased)" if message.erased_at else message.content[:80]

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
    list_filter = ("error_code", "is_test")
    list_select_related = ("channel",)
    search_fields = ("request_id", "session_id", "reason", "channel__name")
    ordering = ("-created_at",)


@admin.register(Feedback)
class FeedbackAdmin(RecordAdmin):
    list_display = ("updated_at", "thumb", "note", "author")
    list_filter = ("rating",)
    list_select_related = ("author",)
    search_fields = ("note",)
    ordering = ("-id",)

    @display(description="thumb", label={"Thumb up": "success", "Thumb down": "danger"})
    def thumb(self, feedback: Feedback) -> str:
        return feedback.get_rating_display()


@admin.register(WaitingTurn)
class WaitingTurnAdmin(RecordAdmin):
    list_display = ("id", "session", "expires_at")
    list_select_related = ("session",)
    search_fields = ("session__session_id",)


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(RecordAdmin):
    """Without the stored body: a conversation's text is read in the conversation."""

    list_display = ("key", "channel", "mode", "claimed_at", "expires_at")
    list_filter = ("is_test",)
    list_select_related = ("channel",)
    search_fields = ("key", "session_id", "channel__name")
    fields = ("key", "channel", "is_test", "session_id", "claimed_at", "expires_at")

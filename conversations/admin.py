"""Staff pages of sessions and messages, read-only."""

from __future__ import annotations

from django.contrib import admin

from common.admin import ReadOnlyAdmin
from common.money import format_credits
from conversations.models import ChatSession, IdempotencyRecord, Message, WaitingTurn


@admin.register(ChatSession)
class ChatSessionAdmin(ReadOnlyAdmin):
    list_display = ("session_id", "channel", "is_test", "message_count", "last_message_at")
    list_filter = ("is_test", "last_message_at")
    list_select_related = ("channel",)
    search_fields = ("session_id", "channel__name")
    ordering = ("-last_message_at",)
    show_full_result_count = False


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "session", "role", "excerpt", "provider_name", "charged")
    list_filter = ("role", "is_estimated", "provider_name")
    list_select_related = ("session",)
    search_fields = ("request_id", "session__session_id")
    ordering = ("-id",)
    show_full_result_count = False

    @admin.display(description="text")
    def excerpt(self, message: Message) -> str:
        if message.session_id is None:
            return "(not kept)"
        return "(erased)" if message.erased_at else message.content[:80]

    @admin.display(ordering="charged_microcredits")
    def charged(self, message: Message) -> str:
        return format_credits(message.charged_microcredits)


@admin.register(WaitingTurn)
class WaitingTurnAdmin(ReadOnlyAdmin):
    list_display = ("id", "session", "expires_at")
    list_select_related = ("session",)
    search_fields = ("session__session_id",)


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    """Without the stored body: a conversation's text is read in the conversation."""

    list_display = ("key", "channel", "is_test", "claimed_at", "expires_at")
    list_filter = ("is_test",)
    list_select_related = ("channel",)
    search_fields = ("key", "session_id", "channel__name")
    fields = ("key", "channel", "is_test", "session_id", "claimed_at", "expires_at")
    show_full_result_count = False

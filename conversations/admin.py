"""Staff pages for sessions, messages, failures, and feedback, read-only and without text."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display

from channels.admin.texts import TextAdmin
from channels.models import Channel
from common.days import day_of, start_of
from common.db import first_uuid7
from common.pages.admin import BigTableAdmin
from common.pages.numbers import local_credits, local_number
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
from conversations.usage import pulse, request_log

_WithKey = ChatSession | Message | DraftReply | FailedRequest | ReplayedRequest | IdempotencyRecord
_KEYS = {"Live": "success", "Test": "info"}
# The same session id may have begun many sessions. A search finds the messages of the latest.
_MOST_SESSIONS = 100


class RecordAdmin(BigTableAdmin):
    """An admin page with a badge for the key: live or test."""

    @display(description=gettext_lazy("key"), label=_KEYS)
    def mode(self, record: _WithKey) -> tuple[str, str]:
        return ("Test", _("Test")) if record.is_test else ("Live", _("Live"))


class Since(admin.SimpleListFilter):
    """The latest rows. Links of the overview lead here."""

    title = gettext_lazy("time")
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("hour", _("The last hour")), ("today", _("Today (UTC)"))]

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
    search_fields = ("=session_id", "channel__name")
    search_help_text = gettext_lazy("A channel's name, or a whole session id")
    ordering = ("-id",)


@admin.register(Message)
class MessageAdmin(TextAdmin, RecordAdmin):
    list_display = ("created_at", "channel", "who", "kept", "provider_name", "tokens", "charged")
    list_filter = (Since, "role", "is_test", "is_estimated")
    list_select_related = ("session", "channel")
    # This only shows the search box. condition_for decides what is searched.
    search_fields = ("request_id",)
    search_help_text = gettext_lazy("A whole request, reply, or session id")
    ordering = ("-id",)
    exclude = ("content", "page_url", "page_title")

    def condition_for(self, term: str) -> Q:
        """Find a request's reply, or a session's messages, by ids, which have indexes."""
        entries = request_log.find_by_reference(account_id=None, reference=term)
        replies = [entry.reply.pk for entry in entries if entry.reply]
        sessions = ChatSession.objects.filter(session_id=term).order_by("-id")
        pks = list(sessions.values_list("pk", flat=True)[:_MOST_SESSIONS])
        return Q(pk__in=replies) | Q(session__in=pks)

    def texts_of(self, row: Message) -> list[tuple[str, str]]:
        if row.role == Message.Role.ASSISTANT:
            return [(_("Reply"), row.content)]
        page = f"{row.page_title}\n{row.page_url}".strip()
        return [(_("Message"), row.content), (_("Page"), page)]

    @display(description=gettext_lazy("role"), label={"user": "info", "assistant": "primary"})
    def who(self, message: Message) -> tuple[str, str]:
        return message.role, message.get_role_display()

    @display(description=gettext_lazy("text"))
    def kept(self, message: Message) -> str:
        if message.session_id is None:
            return _("Not kept")
        return _("Erased") if message.erased_at else _("Kept")

    @display(description=gettext_lazy("tokens in / out"))
    def tokens(self, message: Message) -> str:
        if message.role == Message.Role.USER:
            return "-"
        return f"{local_number(message.input_tokens)} / {local_number(message.output_tokens)}"

    @display(description=gettext_lazy("charged"), ordering="charged_microcredits")
    def charged(self, message: Message) -> str:
        return local_credits(message.charged_microcredits)


@admin.register(FailedRequest)
class FailedRequestAdmin(RecordAdmin):
    list_display = ("created_at", "channel", "mode", "error_code", "reason", "request_model")
    list_filter = (Since, "error_code", "is_test")
    list_select_related = ("channel",)
    search_fields = ("=request_id", "=session_id", "=reason", "channel__name")
    search_help_text = gettext_lazy("A channel's name, a whole request or session id, or a reason")
    ordering = ("-created_at",)


@admin.register(ReplayedRequest)
class ReplayedRequestAdmin(RecordAdmin):
    list_display = ("created_at", "channel", "mode", "request_id", "request_model")
    list_filter = ("is_test",)
    list_select_related = ("channel",)
    search_fields = ("=request_id", "=session_id", "channel__name")
    search_help_text = gettext_lazy("A channel's name, or a whole request or session id")
    ordering = ("-created_at",)


@admin.register(Feedback)
class FeedbackAdmin(TextAdmin, RecordAdmin):
    list_display = ("updated_at", "thumb", "has_note", "author")
    list_filter = ("rating",)
    list_select_related = ("author",)
    ordering = ("-id",)
    exclude = ("note",)

    def texts_of(self, row: Feedback) -> list[tuple[str, str]]:
        return [(_("Note"), row.note)]

    def channel_of(self, row: Feedback) -> Channel:
        return row.message.channel

    @display(description=gettext_lazy("note"), boolean=True)
    def has_note(self, feedback: Feedback) -> bool:
        return bool(feedback.note)

    @display(
        description=gettext_lazy("rating"),
        label={
            Feedback.Rating.UP: "success",
            Feedback.Rating.NONE: "",
            Feedback.Rating.DOWN: "danger",
        },
    )
    def thumb(self, feedback: Feedback) -> tuple[int, str]:
        return feedback.rating, feedback.get_rating_display()


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
    search_fields = ("=request_id", "channel__name")
    search_help_text = gettext_lazy("A channel's name, or a whole request id")


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(RecordAdmin):
    """Idempotency keys, without the stored body: a conversation's text is read on its own page."""

    list_display = ("key", "channel", "mode", "claimed_at", "expires_at")
    list_filter = ("is_test",)
    list_select_related = ("channel",)
    search_fields = ("=key", "=session_id", "channel__name")
    search_help_text = gettext_lazy("A channel's name, or a whole key or session id")
    fields = ("key", "channel", "is_test", "session_id", "claimed_at", "expires_at")

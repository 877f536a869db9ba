"""Staff pages of channels, their own answers and keys; changes go through channels.services."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.decorators import display

from channels import services
from channels.admin.auditing import AuditedAdmin, actor_of
from channels.models import ApiKey, Channel, FixedAnswer, LanguageModel, PromptVersion
from common.admin import ReadOnlyAdmin


class FixedAnswerInline(TabularInline):
    model = FixedAnswer
    extra = 0
    tab = True


class ChannelForm(ModelForm):
    class Meta:
        model = Channel
        fields = (
            "account",
            "name",
            "site_url",
            "is_enabled",
            "model",
            "system_prompt",
            "requests_per_minute",
            "daily_quota",
            "fallback_replies",
        )

    def clean_model(self) -> LanguageModel:
        model: LanguageModel = self.cleaned_data["model"]
        if not model.is_enabled and model.pk != self.initial.get("model"):
            raise ValidationError("This model is switched off. Choose another.")
        return model


@admin.register(Channel)
class ChannelAdmin(AuditedAdmin):
    """Holds, sessions and keys hang on a channel: it is switched off here, never deleted."""

    form = ChannelForm
    inlines = (FixedAnswerInline,)
    list_display = ("name", "account", "model", "state", "requests_per_minute", "daily_quota")
    list_filter = ("is_enabled", "model")
    list_select_related = ("account", "model")
    list_per_page = 50
    show_full_result_count = False
    ordering = ("-id",)
    search_fields = ("name", "account__name", "site_url", "id")
    autocomplete_fields = ("account",)

    @display(description="state", ordering="is_enabled", label={"On": "success", "Off": "danger"})
    def state(self, channel: Channel) -> str:
        return "On" if channel.is_enabled else "Off"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm, change: bool) -> None:
        """Let the services keep the prompt's versions and the audit log."""
        actor = actor_of(request)
        if change:
            changed = {name: form.cleaned_data[name] for name in form.changed_data}
            services.update_channel(
                channel_id=str(obj.pk), actor=actor, prompt_note="By staff", **changed
            )
            return
        fields = dict(form.cleaned_data)
        model = fields.pop("model")
        services.create_channel(actor=actor, model_id=model.model_id, id=obj.pk, **fields)
        obj._state.adding = False


@admin.register(PromptVersion)
class PromptVersionAdmin(ReadOnlyAdmin):
    list_display = ("channel", "number", "author", "note", "created_at")
    list_select_related = ("channel", "author")
    search_fields = ("channel__name",)
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(FixedAnswer)
class FixedAnswerAdmin(AuditedAdmin):
    list_display = ("question", "channel")
    list_select_related = ("channel",)
    show_full_result_count = False
    search_fields = ("question", "channel__name")
    autocomplete_fields = ("channel",)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """Keys are issued with their channel; here they can be looked at and revoked."""

    list_display = ("masked_key", "mode_badge", "channel", "created_at", "expires_at", "revoked_at")
    list_filter = ("mode",)
    list_select_related = ("channel",)
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("key_last_four", "channel__name")
    fields = (
        "channel",
        "mode",
        "masked_key",
        "created_at",
        "expires_at",
        "revoked_at",
        "encryption_key_id",
    )
    actions = ("revoke",)

    @display(description="key")
    def masked_key(self, api_key: ApiKey) -> str:
        return api_key.masked

    @display(description="mode", ordering="mode", label={"Live": "success", "Test": "info"})
    def mode_badge(self, api_key: ApiKey) -> str:
        return api_key.get_mode_display()

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("channels.change_apikey")

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for api_key in queryset.select_related("channel"):
            services.revoke_api_key(api_key=api_key, actor=actor_of(request))
        self.message_user(request, "Revoked: the next request with such a key is refused.")

"""Staff pages of accounts, channels, keys, models and providers. Plain for now."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from channels import services
from channels.models import (
    Account,
    ApiKey,
    AuditEntry,
    Channel,
    FixedAnswer,
    LanguageModel,
    Membership,
    Plan,
    Provider,
    Route,
    RouteHealth,
    User,
)
from common.admin import ReadOnlyAdmin


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    ordering = ("email",)
    list_display = ("email", "is_active", "is_staff", "last_login")
    search_fields = ("email",)
    fieldsets = (
        (None, {"fields": ("email", "password")}),
        ("Name", {"fields": ("first_name", "last_name")}),
        ("Access", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "usable_password", "password1", "password2")}),)

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "email" in form.changed_data:
            User.objects.vouch_for(obj)


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)


@admin.register(Account)
class AccountAdmin(ModelAdmin):
    list_display = ("name", "plan", "is_enabled", "created_at")
    list_filter = ("is_enabled", "plan")
    list_select_related = ("plan",)
    search_fields = ("name", "members__email")
    inlines = (MembershipInline,)


@admin.register(Plan)
class PlanAdmin(ModelAdmin):
    list_display = ("name", "requests_per_minute", "daily_quota", "monthly_grant_microcredits")
    search_fields = ("name",)
    filter_horizontal = ("models_allowed",)


class FixedAnswerInline(TabularInline):
    model = FixedAnswer
    extra = 0


@admin.register(Channel)
class ChannelAdmin(ModelAdmin):
    inlines = (FixedAnswerInline,)
    list_display = ("name", "account", "model", "is_enabled", "requests_per_minute", "daily_quota")
    list_filter = ("is_enabled", "model")
    list_select_related = ("account", "model")
    search_fields = ("name", "account__name", "site_url", "id")
    autocomplete_fields = ("account",)


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """Keys are issued with their channel; here they can be looked at and revoked."""

    list_display = ("masked", "mode", "channel", "created_at", "expires_at", "revoked_at")
    list_filter = ("mode",)
    list_select_related = ("channel",)
    search_fields = ("key_last_four", "channel__name")
    fields = (
        "channel",
        "mode",
        "masked",
        "created_at",
        "expires_at",
        "revoked_at",
        "encryption_key_id",
    )
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("channels.change_apikey")

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for api_key in queryset:
            services.revoke_api_key(api_key=api_key)
        self.message_user(request, "Revoked: the next request with such a key is refused.")


class RouteInline(TabularInline):
    model = Route
    extra = 0


@admin.register(LanguageModel)
class LanguageModelAdmin(ModelAdmin):
    list_display = ("name", "model_id", "context_window_tokens", "is_enabled", "position")
    list_filter = ("is_enabled",)
    search_fields = ("name", "model_id")
    inlines = (RouteInline,)


class ProviderForm(ModelForm):
    """The key goes in and never comes out."""

    new_key = forms.CharField(
        required=False,
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Stored encrypted and never shown again. Empty: the stored one stays.",
    )

    class Meta:
        model = Provider
        fields = ("name", "base_url", "key_setting", "is_enabled")


@admin.register(Provider)
class ProviderAdmin(ModelAdmin):
    form = ProviderForm
    list_display = ("name", "base_url", "key_setting", "has_stored_key", "is_enabled")
    list_filter = ("is_enabled",)
    search_fields = ("name", "base_url")

    @admin.display(boolean=True, description="stored key")
    def has_stored_key(self, provider: Provider) -> bool:
        return provider.key_ciphertext is not None

    def save_model(
        self, request: HttpRequest, obj: Provider, form: ModelForm, change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        new_key: Any = form.cleaned_data.get("new_key")
        if new_key:
            services.set_provider_key(provider=obj, clear=new_key)


@admin.register(Route)
class RouteAdmin(ModelAdmin):
    list_display = ("model", "provider", "provider_model", "position", "is_enabled")
    list_filter = ("is_enabled", "provider", "model")
    list_select_related = ("model", "provider")
    search_fields = ("provider_model",)


@admin.register(Membership)
class MembershipAdmin(ModelAdmin):
    list_display = ("account", "user", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("account", "user")
    search_fields = ("account__name", "user__email")
    autocomplete_fields = ("account", "user")


@admin.register(FixedAnswer)
class FixedAnswerAdmin(ModelAdmin):
    list_display = ("question", "channel")
    list_select_related = ("channel",)
    search_fields = ("question", "channel__name")
    autocomplete_fields = ("channel",)


@admin.register(RouteHealth)
class RouteHealthAdmin(ReadOnlyAdmin):
    list_display = (
        "provider_model",
        "provider_name",
        "reason",
        "failure_count",
        "retry_at",
        "failed_at",
    )
    list_filter = ("is_permanent",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "account", "actor_name", "action", "target")
    list_filter = ("action",)
    list_select_related = ("account",)
    search_fields = ("actor_name", "target", "account__name")
    ordering = ("-id",)
    show_full_result_count = False

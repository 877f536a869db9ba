"""Staff pages for models and prices, providers, routes and their health."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from channels import adaptation, breaker, catalogue, model_ends
from channels.admin.auditing import AuditedAdmin, actor_of
from channels.model_ends import NOTICE
from channels.models import LanguageModel, Provider, Route, RouteHealth
from channels.routes import DEFAULT_PROVIDER
from common.pages.admin import PlainWords, ReadOnlyAdmin, number_from_path
from common.pages.forms import CreditsField
from common.pages.numbers import local_credits, local_number

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

_ON_OFF = {"On": "success", "Off": "danger", "Not in use": "warning"}
MISSING = "Missing in the environment"


def _price_field(label: StrOrPromise) -> CreditsField:
    return CreditsField(
        label=label,
        help_text=gettext_lazy("In credits, with up to six decimals: 0.5 is half a credit."),
        widget=UnfoldAdminTextInputWidget(),
    )


class LanguageModelForm(ModelForm):
    """A form for a model. Prices are entered in credits and stored exactly, in micro-credits."""

    price_per_reply_microcredits = _price_field(gettext_lazy("Price of a reply (credits)"))
    price_per_1k_input_tokens_microcredits = _price_field(
        gettext_lazy("Price of 1,000 input tokens (credits)")
    )
    price_per_1k_output_tokens_microcredits = _price_field(
        gettext_lazy("Price of 1,000 output tokens (credits)")
    )
    price_per_1k_cached_input_tokens_microcredits = CreditsField(
        label=gettext_lazy("Price of 1,000 cached input tokens (credits)"),
        help_text=gettext_lazy(
            "Leave empty to charge the same as for other input. It must not cost more."
        ),
        required=False,
        widget=UnfoldAdminTextInputWidget(),
    )

    class Meta:
        model = LanguageModel
        fields = (
            "name",
            "model_id",
            "context_window_tokens",
            "max_output_tokens",
            "image_tokens",
            "speed_tps",
            "best_for",
            "price_per_reply_microcredits",
            "price_per_1k_input_tokens_microcredits",
            "price_per_1k_output_tokens_microcredits",
            "price_per_1k_cached_input_tokens_microcredits",
            "hides_thinking",
            "first_token_seconds",
            "is_enabled",
            "position",
            "ends_on",
            "successor",
            "is_retired_upstream",
        )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        # Django fills the instance only after this.
        edited = copy(self.instance)
        for name in ("ends_on", "successor", "is_enabled"):
            if name in data:
                setattr(edited, name, data[name])
        try:
            model_ends.refuse_wrong_end(
                edited, changed=self.changed_data, today=timezone.now().date()
            )
        except ValidationError as error:
            for field, words in error.message_dict.items():
                self.add_error(field, words)
        return data


class RouteInline(PlainWords, TabularInline):
    model = Route
    extra = 0
    tab = True


@admin.register(LanguageModel)
class LanguageModelAdmin(AuditedAdmin):
    form = LanguageModelForm
    list_display = (
        "name",
        "model_id",
        "per_reply",
        "per_1k",
        "context",
        "state",
        "end",
        "position",
    )
    list_filter = ("is_enabled", "is_retired_upstream")
    list_select_related = ("successor",)
    search_fields = ("name", "model_id")
    inlines = (RouteInline,)
    fieldsets = (
        (None, {"fields": ("name", "model_id", "best_for", ("is_enabled", "position"))}),
        (
            gettext_lazy("Sizes"),
            {
                "fields": (
                    ("context_window_tokens", "max_output_tokens"),
                    ("image_tokens", "speed_tps"),
                )
            },
        ),
        (gettext_lazy("Thinking"), {"fields": ("hides_thinking", "first_token_seconds")}),
        (gettext_lazy("End"), {"fields": (("ends_on", "successor"), "is_retired_upstream")}),
        (
            gettext_lazy("Prices"),
            {
                "fields": (
                    "price_per_reply_microcredits",
                    "price_per_1k_input_tokens_microcredits",
                    "price_per_1k_output_tokens_microcredits",
                    "price_per_1k_cached_input_tokens_microcredits",
                )
            },
        ),
    )

    @display(description=gettext_lazy("credits per reply"), ordering="price_per_reply_microcredits")
    def per_reply(self, model: LanguageModel) -> str:
        return local_credits(model.price_per_reply_microcredits)

    @display(description=gettext_lazy("credits per 1,000 tokens, in (cached) / out"))
    def per_1k(self, model: LanguageModel) -> str:
        came_in = local_credits(model.price_per_1k_input_tokens_microcredits)
        went_out = local_credits(model.price_per_1k_output_tokens_microcredits)
        cached = model.price_per_1k_cached_input_tokens_microcredits
        if cached is not None:
            came_in += f" ({local_credits(cached)})"
        return f"{came_in} / {went_out}"

    @display(description=gettext_lazy("context"), ordering="context_window_tokens")
    def context(self, model: LanguageModel) -> str:
        return local_number(model.context_window_tokens)

    @display(description=gettext_lazy("state"), ordering="is_enabled", label=_ON_OFF)
    def state(self, model: LanguageModel) -> tuple[str, str]:
        return ("On", _("On")) if model.is_enabled else ("Off", _("Off"))

    @display(description=gettext_lazy("end"), ordering="ends_on")
    def end(self, model: LanguageModel) -> str:
        """Say when a model retires, however far away that is."""
        today = timezone.now().date()
        if model.ends_on is not None:
            return model_ends.words_of_end(model, today=max(today, model.ends_on - NOTICE))
        return _("Retired by its first provider") if model.is_retired_upstream else "-"


def environment_address() -> str:
    """Return the address of PROVIDER_BASE_URL without its query, which may hold a key, or ''."""
    return str(settings.PROVIDER_BASE_URL).partition("?")[0]


class EnvironmentAdmin(AuditedAdmin):
    """Shows the provider of PROVIDER_BASE_URL, which has no row, above the list."""

    list_before_template = "staff/environment_provider.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        shown = {
            "environment_name": DEFAULT_PROVIDER,
            "environment_address": environment_address(),
            "environment_has_key": bool(settings.PROVIDER_API_KEY),
            "environment_parameters": settings.PROVIDER_ALLOWED_PARAMETERS,
        }
        answer: HttpResponse = super().changelist_view(request, (extra_context or {}) | shown)
        return answer


def _state(is_enabled: bool, provider: Provider) -> tuple[str, str]:
    """Return the effective state: the gateway does not use a provider whose key is missing."""
    if not is_enabled:
        return "Off", _("Off")
    is_used = provider.is_enabled and _key_source(provider) != MISSING
    return ("On", _("On")) if is_used else ("Not in use", _("Not in use"))


def _key_source(provider: Provider) -> str:
    if provider.key_ciphertext is not None:
        return "Stored here"
    if not provider.key_setting:
        return "None"
    is_set = bool(settings.PROVIDER_KEYS.get(provider.key_setting))
    return "From the environment" if is_set else MISSING


_KEY_SOURCES = {
    "Stored here": gettext_lazy("Stored here"),
    "From the environment": gettext_lazy("From the environment"),
    MISSING: gettext_lazy("Missing in the environment"),
    "None": gettext_lazy("None"),
}


class ProviderForm(ModelForm):
    """A form for a provider. It accepts a key and never shows one."""

    new_key = forms.CharField(
        label=gettext_lazy("New key"),
        required=False,
        strip=True,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy(
            "Stored encrypted and never shown again. Leave empty to keep the stored one."
        ),
    )

    class Meta:
        model = Provider
        fields = ("name", "base_url", "key_setting", "is_enabled")


@admin.register(Provider)
class ProviderAdmin(EnvironmentAdmin):
    form = ProviderForm
    secret_fields = ("new_key",)
    list_display = ("name", "base_url", "key_source", "state")
    list_filter = ("is_enabled",)
    search_fields = ("name", "base_url")
    actions_list = ("set_up",)

    def has_set_up_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.is_superuser)

    @action(
        description=gettext_lazy("Set up and test"), icon="network_check", permissions=["set_up"]
    )
    def set_up(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:provider_wizard")

    def get_readonly_fields(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        """Let only superusers decide where keys and visitors' texts go.

        A different address would send both to its host. A different key would let its holder read
        the texts at the provider. Other staff may prepare a provider, which stays off, and switch a
        provider off.
        """
        fixed = super().get_readonly_fields(request, obj)
        if request.user.is_superuser:
            return fixed
        fixed = (*fixed, "key_setting", "new_key")
        if obj is None:
            return (*fixed, "is_enabled")
        return (*fixed, "base_url") if obj.is_enabled else (*fixed, "base_url", "is_enabled")

    def get_fields(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        fields = super().get_fields(request, obj)
        return [name for name in fields if name != "new_key" or request.user.is_superuser]

    @display(
        description=gettext_lazy("key"),
        label={
            "Stored here": "success",
            "From the environment": "success",
            MISSING: "warning",
            "None": "info",
        },
    )
    def key_source(self, provider: Provider) -> tuple[str, str]:
        source = _key_source(provider)
        return source, str(_KEY_SOURCES[source])

    @display(description=gettext_lazy("state"), ordering="is_enabled", label=_ON_OFF)
    def state(self, provider: Provider) -> tuple[str, str]:
        return _state(provider.is_enabled, provider)

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm, change: bool) -> None:
        if not change and not request.user.is_superuser:
            obj.is_enabled = False
        super().save_model(request, obj, form, change)
        new_key: Any = form.cleaned_data.get("new_key")
        if new_key:
            catalogue.set_provider_key(provider=obj, clear=new_key, actor=actor_of(request))


@admin.register(Route)
class RouteAdmin(EnvironmentAdmin):
    list_display = ("model", "provider", "provider_model", "position", "state", "test_link")
    list_filter = ("is_enabled", "provider", "model")
    list_select_related = ("model", "provider")
    search_fields = ("provider_model",)
    actions_detail = ("try_it",)
    readonly_fields = ("learned",)

    @display(description=gettext_lazy("learned"))
    def learned(self, route: Route) -> str:
        """Describe what the gateway learned about this route. An edit of the route deletes it."""
        return adaptation.describe(route) or _("Nothing: it takes requests unchanged.")

    @display(description=gettext_lazy("state"), ordering="is_enabled", label=_ON_OFF)
    def state(self, route: Route) -> tuple[str, str]:
        return _state(route.is_enabled, route.provider)

    @display(description=gettext_lazy("try it"))
    def test_link(self, route: Route) -> SafeString:
        address = reverse("admin:test_route", args=[route.pk])
        return format_html(
            '<a class="gw-btn gw-btn-small" href="{}">{}</a>', address, _("Test route")
        )

    @action(description=gettext_lazy("Test route"), icon="network_check", permissions=["change"])
    def try_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect("admin:test_route", number_from_path(object_id))


_BREAKER = {
    "closed": gettext_lazy("closed"),
    "open": pgettext_lazy("breaker", "open"),
    "open for streams": gettext_lazy("open for streams"),
    "waiting": gettext_lazy("waiting"),
}


def words_of_breaker(state: str) -> str:
    """Return a state of the breaker in the reader's language."""
    return str(_BREAKER[state])


@admin.register(RouteHealth)
class RouteHealthAdmin(ReadOnlyAdmin):
    list_display = ("provider_model", "provider_name", "state", "reason", "failures", "retry_at")
    list_filter = ("is_permanent",)
    ordering = ("-failed_at",)

    @display(
        description=gettext_lazy("state"),
        label={
            "closed": "success",
            "open": "danger",
            "open for streams": "danger",
            "waiting": "warning",
        },
    )
    def state(self, health: RouteHealth) -> tuple[str, str]:
        state = breaker.state_of(health, now=timezone.now())
        return state, words_of_breaker(state)

    @display(description=gettext_lazy("failures in a row"))
    def failures(self, health: RouteHealth) -> int:
        return health.failure_count + health.stream_failure_count

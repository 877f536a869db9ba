"""Staff pages for the keys of channels and accounts. Masked: staff see and revoke them only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_permission_codename
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext
from unfold.decorators import display

from channels import account_keys, api_keys, search
from channels.admin.auditing import actor_of
from channels.audit import Actor
from channels.models import AccountKey, ApiKey, KeyUse
from common.pages.admin import ReadOnlyAdmin


class KeyAdmin(ReadOnlyAdmin):
    """Owners issue keys in the console. Staff can view and revoke them here, never read them."""

    list_per_page = 50
    show_full_result_count = False
    ordering = ("-created_at", "-id")
    actions = ("revoke",)

    @display(description=gettext_lazy("key"))
    def masked_key(self, key: Any) -> str:
        return str(key.masked)

    @display(
        description=gettext_lazy("state"),
        label={"Works": "success", "Ends soon": "warning", "Ended": "danger"},
    )
    def state(self, key: Any) -> tuple[str, str]:
        ends_at = self.ends_at(key)
        if ends_at is None:
            return "Works", _("Works")
        is_over = key.revoked_at is not None or ends_at <= timezone.now()
        return ("Ended", _("Ended")) if is_over else ("Ends soon", _("Ends soon"))

    @display(description=gettext_lazy("ends"))
    def ends_at(self, key: Any) -> datetime | None:
        return min(filter(None, (key.revoked_at, key.expires_at)), default=None)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet, bool]:
        """Find a key also by its masked form: `amgai_…x7Qf`."""
        ending = search.key_ending(search_term)
        found: tuple[QuerySet, bool] = super().get_search_results(
            request, queryset, ending or search_term
        )
        return found

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        codename = get_permission_codename("change", self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    @admin.action(description=gettext_lazy("Revoke the selected keys"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet) -> None:
        for key in queryset:
            self.end(key, actor_of(request))
        self.message_user(request, _("Revoked. The next request with such a key is refused."))

    def end(self, key: Any, actor: Actor) -> None:
        """Revoke one key through its service, which writes the account's audit log."""
        raise NotImplementedError


def _use_of(api_key: ApiKey) -> KeyUse | None:
    return getattr(api_key, "use", None)  # Django raises AttributeError if there is no row


@admin.register(ApiKey)
class ApiKeyAdmin(KeyAdmin):
    list_display = (
        "masked_key",
        "name",
        "mode_badge",
        "state",
        "channel",
        "last_used_at",
        "created_at",
        "ends_at",
    )
    list_filter = ("mode",)
    list_select_related = ("channel", "use")
    search_fields = ("key_last_four", "name", "channel__name")
    search_help_text = gettext_lazy("The end of a key, its name, or the name of its channel")
    fields = (
        "channel",
        "mode",
        "masked_key",
        "name",
        "created_at",
        "created_by",
        "expires_at",
        "rotated_at",
        "revoked_at",
        "allowed_addresses",
        "allowed_models",
        "last_used_at",
        "last_used_from",
        "encryption_key_id",
    )

    @display(
        description=gettext_lazy("last used"),
        ordering="use__last_used_at",
        empty_value=gettext_lazy("never"),
    )
    def last_used_at(self, api_key: ApiKey) -> datetime | None:
        use = _use_of(api_key)
        return use.last_used_at if use else None

    @display(description=gettext_lazy("from"))
    def last_used_from(self, api_key: ApiKey) -> str | None:
        use = _use_of(api_key)
        if use is None:
            return None
        address = use.address or pgettext("last use", "an unknown address")
        return f"{address}, {use.user_agent or _('an unnamed client')}"

    @display(
        description=gettext_lazy("mode"), ordering="mode", label={"live": "success", "test": "info"}
    )
    def mode_badge(self, api_key: ApiKey) -> tuple[str, str]:
        return api_key.mode, api_key.get_mode_display()

    def end(self, key: ApiKey, actor: Actor) -> None:
        api_keys.revoke_api_key(api_key=key, actor=actor)


@admin.register(AccountKey)
class AccountKeyAdmin(KeyAdmin):
    list_display = (
        "masked_key",
        "name",
        "state",
        "account",
        "created_by",
        "last_used",
        "created_at",
        "ends_at",
    )
    linked_filters = ("account",)
    list_select_related = ("account", "created_by")
    search_fields = ("key_last_four", "name", "account__name")
    search_help_text = gettext_lazy("The end of a key, its name, or the name of its account")
    fields = (
        "account",
        "masked_key",
        "name",
        "created_at",
        "created_by",
        "expires_at",
        "revoked_at",
        "last_used",
        "encryption_key_id",
    )

    @display(
        description=gettext_lazy("last used"),
        ordering="last_used_at",
        empty_value=gettext_lazy("never"),
    )
    def last_used(self, key: AccountKey) -> datetime | None:
        return key.last_used_at

    def end(self, key: AccountKey, actor: Actor) -> None:
        account_keys.revoke_account_key(account_key=key, actor=actor)

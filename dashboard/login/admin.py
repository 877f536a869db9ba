"""The staff's page for people's second factors. Addresses are changed on the person's page."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from channels import audit
from channels.admin.auditing import actor_of
from common.pages.admin import ReadOnlyAdmin


class AuthenticatorAdmin(ReadOnlyAdmin):
    """Lists who has which second factor, never its secret. Removes a lost one."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__email",)
    fields = list_display

    def has_delete_permission(self, request: HttpRequest, obj: Authenticator | None = None) -> bool:
        # Without the second factor, the password alone opens the person's accounts.
        return bool(request.user.is_superuser)

    def delete_model(self, request: HttpRequest, obj: Authenticator) -> None:
        self._note(request, obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Authenticator]) -> None:
        for factor in queryset.select_related("user"):
            self._note(request, factor)
        super().delete_queryset(request, queryset)

    def _note(self, request: HttpRequest, factor: Authenticator) -> None:
        audit.record_for_person(
            "second_factor.removed_by_staff",
            actor=actor_of(request),
            person=factor.user,
            changes={"factor": (factor.type, None)},
        )


def replace_pages_of_allauth() -> None:
    """Replace allauth's admin pages, which let anyone read and write secrets, with ours."""
    admin.site.unregister(EmailAddress)
    admin.site.unregister(Authenticator)
    admin.site.register(Authenticator, AuthenticatorAdmin)

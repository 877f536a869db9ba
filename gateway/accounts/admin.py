"""What staff see of people's second factors; addresses are changed on the page of the person."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.http import HttpRequest

from common.admin import ReadOnlyAdmin


class AuthenticatorAdmin(ReadOnlyAdmin):
    """Who has which second factor, never its secret; removed for who has lost theirs."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__email",)
    fields = list_display

    def has_delete_permission(self, request: HttpRequest, obj: Authenticator | None = None) -> bool:
        # It opens somebody's account to their password alone.
        return bool(request.user.is_superuser)


def replace_pages_of_allauth() -> None:
    """Put our pages in the place of those that let anyone read and write secrets."""
    admin.site.unregister(EmailAddress)
    admin.site.unregister(Authenticator)
    admin.site.register(Authenticator, AuthenticatorAdmin)

"""Check that a channel may be used at all, after authentication and before any limit."""

from __future__ import annotations

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from channels.authentication import caller_of
from channels.callers import Caller
from common.errors import SiteDisabled


class ChannelIsEnabled(BasePermission):
    """Raises SiteDisabled if the channel, or the account that pays for it, is switched off."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        check_enabled(caller_of(request))
        return True


def check_enabled(caller: Caller) -> None:
    """Raise SiteDisabled if the channel, or the account that pays for it, is switched off."""
    if caller.is_enabled:
        return
    if caller.is_account_enabled:
        raise SiteDisabled
    raise SiteDisabled("The account this channel belongs to is disabled. Contact the operator.")

"""May this channel be used at all? Asked after authentication, before any limit."""

from __future__ import annotations

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from channels.authentication import caller_of
from common.errors import SiteDisabled


class ChannelIsEnabled(BasePermission):
    """Raises SiteDisabled where the channel, or the account that pays for it, is switched off."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = caller_of(request)
        if caller.is_enabled:
            return True
        if caller.is_account_enabled:
            raise SiteDisabled
        raise SiteDisabled("The account this channel belongs to is disabled. Contact the operator.")

"""Check that a channel and its key may be used, after authentication and before any limit."""

from __future__ import annotations

from django.http import HttpRequest
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from channels import key_uses
from channels.authentication import caller_of
from channels.callers import Caller
from channels.key_terms import contains
from common.errors import NotAllowed, SiteDisabled
from common.floods import client_address


class ChannelIsEnabled(BasePermission):
    """Lets in the keys of enabled channels, as far as their owners allow, and notes their use.

    Raises SiteDisabled if the channel, or the account that pays for it, is switched off, and
    NotAllowed if the key may not be used from this address. `check_model` judges the model, once
    it is known.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = caller_of(request)
        check_enabled(caller)
        # Set by billing's CountedKey. A request that nobody judged is a fault, and no way in.
        refusal: NotAllowed | None = request._request.refusal  # type: ignore[attr-defined]
        if refusal is not None:
            raise refusal
        if caller.key_id is not None:
            key_uses.note(caller.key_id, request._request.META)
        return True


def check_enabled(caller: Caller) -> None:
    """Raise SiteDisabled if the channel, or the account that pays for it, is switched off."""
    if caller.is_enabled:
        return
    if caller.is_account_enabled:
        raise SiteDisabled
    raise SiteDisabled("The account this channel belongs to is disabled. Contact the operator.")


def check_model(caller: Caller, model_id: str) -> None:
    """Raise NotAllowed if the key may not use this model."""
    if not caller.may_use(model_id):
        raise NotAllowed(
            f"This key may not use the model {model_id}. The channel's owner can allow it for this "
            "key in the dashboard."
        )


def refusal_of(caller: Caller, request: HttpRequest) -> NotAllowed | None:
    """Return why the key may not be used from the request's address, or None if it may."""
    if caller.allowed_addresses is None:
        return None
    address = client_address(request)
    if contains(caller.allowed_addresses, address):
        return None
    return NotAllowed(
        f"This key may not be used from {address or 'an unknown address'}. The channel's owner can "
        "allow the address for this key in the dashboard."
    )

"""Authentication by account key, for the programs that manage an account through /api/manage/."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from channels import authentication
from channels.account_keys import usable_account_keys
from channels.audit import Actor
from channels.authentication import read_key, refuse_unknown_key
from channels.models import Account, AccountKey
from channels.sealing import ACCOUNT_KEYS
from common.errors import InvalidApiKey, SiteDisabled
from common.floods import client_address

USE_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class AccountCaller:
    """A valid account key, its account with the plan, and where the request came from."""

    key: AccountKey
    account: Account
    address: str

    @property
    def key_id(self) -> uuid.UUID:
        return self.key.id

    @property
    def account_id(self) -> int:
        return self.account.id

    @property
    def actor(self) -> Actor:
        """The key as the actor of audit log entries."""
        return Actor(f"API key {self.key.masked}", address=self.address)


class AccountKeyAuthentication(BaseAuthentication):
    """Sets `request.auth` to the AccountCaller.

    A channel's key gets the same answer as any wrong key, without a query. Raises what
    ApiKeyAuthentication raises.
    """

    def authenticate(self, request: Request) -> tuple[None, AccountCaller]:
        clear = read_key(request._request)
        if not authentication.has_shape(clear, (authentication.account_key_prefix(),)):
            raise InvalidApiKey
        keys = usable_account_keys(timezone.now()).defer("key_ciphertext")
        found = keys.select_related("account__plan").filter(ACCOUNT_KEYS.found_by(clear)).first()
        if found is None:
            refuse_unknown_key(request._request)
        request._request.log_fields = {  # type: ignore[attr-defined]  # read by the access log
            "account_id": found.account_id,
            "key": found.masked,
        }
        return None, AccountCaller(found, found.account, client_address(request._request))


class AccountIsEnabled(BasePermission):
    """Raises SiteDisabled if the account is switched off. Notes that the key was used."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = account_caller_of(request)
        if not caller.account.is_enabled:
            raise SiteDisabled("This account is disabled. Contact the operator.")
        _note_use(caller.key)
        return True


def account_caller_of(request: Request) -> AccountCaller:
    """Return the caller of a request that AccountKeyAuthentication has admitted."""
    assert isinstance(request.auth, AccountCaller)
    return request.auth


def _note_use(account_key: AccountKey) -> None:
    now = timezone.now()
    noted = account_key.last_used_at
    if noted is None or noted <= now - USE_NOTED_EVERY:
        is_due = Q(last_used_at=None) | Q(last_used_at__lte=now - USE_NOTED_EVERY)
        AccountKey.objects.filter(is_due, id=account_key.id).update(last_used_at=now)

"""Authentication by API key: reads the key from a header, checks its shape, looks it up."""

from __future__ import annotations

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from channels import key_format, secret_checks
from channels.callers import Caller
from common import floods
from common.errors import InvalidApiKey, MissingApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.auth` to the Caller. There is no user behind an API request.

    Raises MissingApiKey, InvalidApiKey, RateLimited for an address that keeps trying keys, and
    WrongSecrets if the settings do not fit the database, so that no key can match.
    """

    def find_caller(self, request: Request, key: str) -> Caller | None:
        """Return the caller with this active key, or None. Billing's subclasses implement it."""
        raise NotImplementedError

    def authenticate(self, request: Request) -> tuple[None, Caller]:
        key = read_key(request._request)
        if not key_format.is_well_formed(key):
            raise InvalidApiKey
        caller = self.find_caller(request, key)
        if caller is None:
            # With a wrong pepper every key is unknown, and that is not the caller's fault.
            secret_checks.require_fit()
            floods.count_failed_key(request._request)
            raise InvalidApiKey
        request._request.log_fields = {  # type: ignore[attr-defined]  # read by the access log
            "channel_id": str(caller.channel_id),
            "key": caller.key_masked,
        }
        return None, caller


def caller_of(request: Request) -> Caller:
    """Return the caller of a request that ApiKeyAuthentication has admitted."""
    assert isinstance(request.auth, Caller)
    return request.auth


def read_key(request: HttpRequest) -> str:
    """Return the key from X-API-Key or the bearer token.

    Raises InvalidApiKey for two different keys, and MissingApiKey for none.
    """
    key = request.META.get("HTTP_X_API_KEY", "").strip()
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    if key and bearer and key != bearer:
        raise InvalidApiKey
    if not (key or bearer):
        raise MissingApiKey
    return key or bearer

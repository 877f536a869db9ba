"""Who is calling: the key in the header, checked by shape, then looked up by digest."""

from __future__ import annotations

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from channels import keys, secret_checks
from channels.callers import Caller
from common import floods
from common.errors import InvalidApiKey, MissingApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.auth` to the Caller; there is no user behind an API request.

    Raises MissingApiKey or InvalidApiKey; RateLimited for an address that keeps trying keys;
    WrongSecrets where no key can be known.
    """

    def find_caller(self, request: Request, key: str) -> Caller | None:
        """Return who holds this key now, or None; a view's class says how (billing)."""
        raise NotImplementedError

    def authenticate(self, request: Request) -> tuple[None, Caller]:
        key = read_key(request._request)
        if not keys.is_well_formed(key):
            raise InvalidApiKey
        caller = self.find_caller(request, key)
        if caller is None:
            # Under another pepper every key is unknown: that is no fault of the caller's.
            secret_checks.require_fit()
            floods.count_failed_key(request._request)
            raise InvalidApiKey
        request._request.log_fields = {  # type: ignore[attr-defined]  # read by the access log
            "channel_id": str(caller.channel_id),
            "key": caller.key_masked,
        }
        return None, caller


def caller_of(request: Request) -> Caller:
    """Return who is calling, once ApiKeyAuthentication has let the request in."""
    assert isinstance(request.auth, Caller)
    return request.auth


def read_key(request: HttpRequest) -> str:
    """Return the key from X-API-Key or the bearer token; two different ones are invalid."""
    key = request.META.get("HTTP_X_API_KEY", "").strip()
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    if key and bearer and key != bearer:
        raise InvalidApiKey
    if not (key or bearer):
        raise MissingApiKey
    return key or bearer

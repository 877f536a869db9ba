"""Who may call: the shape of API keys, authentication by key, and what the key is allowed.

A key is a prefix, 36 random characters, and 6 characters of checksum. With the checksum, the
gateway refuses a mistyped or invented key before any query.
"""

from __future__ import annotations

import secrets
import string
import time
import zlib
from typing import NoReturn

from django.conf import settings
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from channels import key_uses, secret_checks
from channels.callers import Caller
from channels.key_terms import contains
from common import floods
from common.errors import InvalidApiKey, MissingApiKey, NotAllowed, SiteDisabled


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
        if not has_shape(key, key_prefixes()):
            raise InvalidApiKey
        caller = self.find_caller(request, key)
        if caller is None:
            refuse_unknown_key(request._request)
        request._request.log_fields = {  # type: ignore[attr-defined]  # read by the access log
            "channel_id": str(caller.channel_id),
            "key": caller.key_masked,
        }
        return None, caller


def refuse_unknown_key(request: HttpRequest) -> NoReturn:
    """Raise InvalidApiKey, or RateLimited for an address that keeps trying keys."""
    # With a wrong pepper every key is unknown, and that is not the caller's fault.
    secret_checks.require_fit()
    floods.count_failed_key(request)
    raise InvalidApiKey


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


class ChannelIsEnabled(BasePermission):
    """Lets in the keys of enabled channels, as far as their owners allow, and notes their use.

    Raises SiteDisabled if the channel, or the account that pays for it, is switched off, and
    NotAllowed if the key may not be used from this address. `check_model` checks the model, once it
    is known.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = caller_of(request)
        check_enabled(caller)
        # Set by billing's CountedKey. A request that was never checked is a bug, and is not let in.
        refusal: NotAllowed | None = request._request.refusal  # type: ignore[attr-defined]
        if refusal is not None:
            raise refusal
        assert caller.key_id is not None, "the caller was found by a key"
        meta = request._request.META
        key_uses.seen.append(
            (
                caller.key_id,
                time.time(),
                meta.get("REMOTE_ADDR", ""),
                meta.get(settings.TRUSTED_PROXY_META, "")[-key_uses.LONGEST_FORWARDED :],
                meta.get("HTTP_USER_AGENT", "")[: key_uses.LONGEST_AGENT],
                request._request.minute.is_admitted,  # type: ignore[attr-defined]  # CountedKey's too
            )
        )
        if not key_uses.has_writer or len(key_uses.seen) >= key_uses.MOST_SEEN:
            key_uses.catch_up()
        return True


def check_enabled(caller: Caller) -> None:
    """Raise SiteDisabled if the channel, or the account that pays for it, is switched off."""
    if not caller.is_account_enabled:
        raise SiteDisabled("The account this channel belongs to is disabled. Contact the operator.")
    if not caller.is_channel_enabled:
        raise SiteDisabled


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
    address = floods.client_address(request)
    if contains(caller.allowed_addresses, address):
        return None
    return NotAllowed(
        f"This key may not be used from {address or 'an unknown address'}. The channel's owner can "
        "allow the address for this key in the dashboard."
    )


# --- Keys ---------------------------------------------------------------------------------------

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ALPHABET_SET = frozenset(ALPHABET)
RANDOM_CHARACTERS = 36
CHECKSUM_CHARACTERS = 6
_TAIL_CHARACTERS = RANDOM_CHARACTERS + CHECKSUM_CHARACTERS


def generate_key(*, is_test: bool) -> str:
    """Return a new key of a channel."""
    return generate(key_prefixes()[is_test])


def generate(prefix: str) -> str:
    """Return a new key. Its 36 random base62 characters hold 214 bits."""
    body = prefix + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return body + checksum(body)


def key_prefixes() -> tuple[str, str]:
    """Return the fixed beginnings of a live key and of a test key."""
    return settings.API_KEY_PREFIX, f"{settings.API_KEY_PREFIX}test_"


def account_key_prefix() -> str:
    """Return the fixed beginning of an account's key."""
    return f"{settings.API_KEY_PREFIX}admin_"


def checksum(body: str) -> str:
    """Return the CRC-32 of `body` in base62, most significant digit first, padded with 0."""
    value = zlib.crc32(body.encode())
    digits = ""
    for _ in range(CHECKSUM_CHARACTERS):
        value, remainder = divmod(value, 62)
        digits = ALPHABET[remainder] + digits
    return digits


def has_shape(key: str, prefixes: tuple[str, ...]) -> bool:
    """Return whether a text has one of these prefixes, and a key's length, alphabet, checksum."""
    body, tail = key[:-CHECKSUM_CHARACTERS], key[-CHECKSUM_CHARACTERS:]
    prefix = key[:-_TAIL_CHARACTERS]
    return (
        prefix in prefixes
        and _ALPHABET_SET.issuperset(key[len(prefix) :])
        and checksum(body) == tail
    )

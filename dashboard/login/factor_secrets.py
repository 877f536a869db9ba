"""Tells the adapter whose second factor it encrypts or decrypts, which allauth does not do.

allauth hands the adapter only a text to encrypt or decrypt. Only the calling methods know which row
the text belongs to, and so what it is bound to. `install` makes them set this context.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY, TOTP, generate_totp_secret
from django.http import HttpRequest

from channels import sealing, second_factors
from channels.models import User
from common.crypto import DecryptionError

logger = logging.getLogger("gateway.accounts")

# The row that the current secret is bound to.
_row: ContextVar[str] = ContextVar("second_factor_row")


def seal(text: str) -> str:
    """Return the secret of a new factor, encrypted and bound to its row."""
    return second_factors.text_of(*sealing.encrypt(text, context=_row.get()))


def unseal(text: str) -> str:
    """Return the decrypted secret of the factor that is being read. Raises DecryptionError."""
    return second_factors.open_text(text, context=_row.get())


def install() -> None:
    """Make allauth set the row whenever it creates or reads a factor. Called once, at start-up."""
    TOTP.activate = _making(TOTP, Authenticator.Type.TOTP)
    RecoveryCodes.activate = _making(RecoveryCodes, Authenticator.Type.RECOVERY_CODES)
    # If a secret cannot be read, only its own factor stops working, not the other ways to log in.
    TOTP.validate_code = _reading(TOTP.validate_code, otherwise=False)
    RecoveryCodes.generate_codes = _reading(RecoveryCodes.generate_codes, otherwise=[])


def _making(kind_of_factor: Any, kind: Authenticator.Type) -> Any:
    activate = kind_of_factor.activate.__func__

    @wraps(activate)
    def bound(cls: Any, user: User, *args: Any) -> Any:
        with _bound_to(user.pk, kind.value):
            return activate(cls, user, *args)

    return classmethod(bound)


def _reading(read: Callable[..., Any], *, otherwise: Any) -> Callable[..., Any]:
    @wraps(read)
    def bound(factor: Any, *args: Any) -> Any:
        row: Authenticator = factor.instance
        with _bound_to(row.user_id, row.type):
            try:
                return read(factor, *args)
            except DecryptionError as error:
                logger.error("accounts.second_factor.unreadable", extra={"reason": str(error)})
                return otherwise

    return bound


@contextmanager
def _bound_to(user_id: int, kind: str) -> Iterator[None]:
    token = _row.set(second_factors.context_of(user_id=user_id, kind=kind))
    try:
        yield
    finally:
        _row.reset(token)


def keep_pending(request: HttpRequest, found: str, *, user_id: int) -> str:
    """Return the secret for setting up an authenticator app. The session keeps it encrypted.

    `found` is what allauth found in the session, or has just put there.
    """
    context = f"django_session.{SECRET_SESSION_KEY}.{user_id}"
    if second_factors.is_bound(found):
        try:
            return second_factors.open_text(found, context=context)
        except DecryptionError:
            found = generate_totp_secret()
    sealed = sealing.encrypt(found, context=context)
    request.session[SECRET_SESSION_KEY] = second_factors.text_of(*sealed)
    return found

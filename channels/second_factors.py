"""Secrets of second factors: one text each, within the JSON that the log-in library stores.

A text is `row:<key id>:<ciphertext>`. It is bound to its row, which the person and the kind of
factor identify. Texts without `row:` are older and not bound. `manage.py rotatekeys` binds them.
"""

from __future__ import annotations

import base64
import binascii

from allauth.mfa.models import Authenticator

from common import crypto

_BOUND = "row:"
_UNBOUND_CONTEXT = "mfa_authenticator.data"
# The member of a factor's JSON that holds its secret, by type. A passkey has none.
MEMBERS = {
    Authenticator.Type.TOTP.value: "secret",
    Authenticator.Type.RECOVERY_CODES.value: "seed",
}


def context_of(*, user_id: int, kind: str) -> str:
    """Return the encryption context of a factor's secret. A person has one factor of each kind."""
    return f"{_UNBOUND_CONTEXT}.{user_id}.{kind}"


def text_of(key_id: str, sealed: bytes) -> str:
    """Return the stored text of an encrypted secret."""
    return f"{_BOUND}{key_id}:{base64.b64encode(sealed).decode()}"


def key_id_of(text: str) -> str:
    """Return the id of the key that decrypts a stored text."""
    return (text.removeprefix(_BOUND) if is_bound(text) else text).partition(":")[0]


def is_bound(text: str) -> bool:
    """Return whether a stored text is bound to its row."""
    return text.startswith(_BOUND) and text.count(":") == 2


def open_text(text: str, *, context: str) -> str:
    """Return the decrypted secret of a stored text. Raises common.crypto.DecryptionError."""
    is_ours = is_bound(text)
    key_id, sealed = _split(text.removeprefix(_BOUND) if is_ours else text)
    return crypto.decrypt(key_id, sealed, context=context if is_ours else _UNBOUND_CONTEXT)


def _split(text: str) -> tuple[str, bytes]:
    key_id, _, encoded = text.partition(":")
    try:
        return key_id, base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return key_id, b""

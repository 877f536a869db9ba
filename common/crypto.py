"""Secrets at rest: AES-256-GCM under a key ring, and a keyed digest for look-ups.

There are three separate secrets, so that losing or rotating one does not affect the others:
Django's SECRET_KEY, the key ring (ENCRYPTION_KEYS), and the digest pepper (KEY_DIGEST_PEPPER).

This module never uses the database. channels/sealing.py seals what is stored, and makes sure that
the database and this process use the same secrets.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

# GCM is specified for a 96-bit nonce without further hashing (NIST SP 800-38D).
NONCE_BYTES = 12


class DecryptionError(Exception):
    """A ciphertext is damaged or was moved, or its key is not in the ring."""


def parse_key_ring(text: str) -> dict[str, bytes]:
    """Parse 'id:base64key,id:base64key' (newest first) into an ordered mapping of 32-byte keys."""
    ring: dict[str, bytes] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key_id, separator, encoded = part.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        # The message must not quote the part, which may contain the key.
        if not (separator and key_id and len(key_id) <= 32 and len(key) == 32):
            raise ImproperlyConfigured(
                "ENCRYPTION_KEYS must be a comma-separated list of id:key, where key is 32 random "
                "bytes in base64. `make setup` writes one; `openssl rand -base64 32` makes a key."
            )
        if key_id in ring:
            raise ImproperlyConfigured(f"ENCRYPTION_KEYS names the key id '{key_id}' twice.")
        ring[key_id] = key
    if not ring:
        raise ImproperlyConfigured("ENCRYPTION_KEYS holds no key. `make setup` writes one.")
    return ring


@lru_cache(maxsize=8)
def _ciphers(text: str) -> dict[str, AESGCM]:
    return {key_id: AESGCM(key) for key_id, key in parse_key_ring(text).items()}


def known_key_ids() -> list[str]:
    """Return the ids of the ring, the encrypting one first."""
    return list(_ciphers(settings.ENCRYPTION_KEYS))


def encrypt(plaintext: str, *, context: str) -> tuple[str, bytes]:
    """Return (key id, nonce + ciphertext + tag) under the newest key.

    `context` names table, column, and row. It is authenticated together with the key id, so a
    ciphertext is valid nowhere else.
    """
    key_id, cipher = next(iter(_ciphers(settings.ENCRYPTION_KEYS).items()))
    nonce = os.urandom(NONCE_BYTES)
    sealed = cipher.encrypt(nonce, plaintext.encode(), _associated_data(context, key_id))
    return key_id, nonce + sealed


def decrypt(key_id: str, sealed: bytes, *, context: str) -> str:
    """Return the plaintext. Raises DecryptionError, whose message contains no secret."""
    cipher = _ciphers(settings.ENCRYPTION_KEYS).get(key_id)
    if cipher is None:
        raise DecryptionError(f"the encryption key '{key_id}' is not in ENCRYPTION_KEYS")
    try:
        plaintext = cipher.decrypt(
            sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated_data(context, key_id)
        )
    except (InvalidTag, ValueError):
        raise DecryptionError(f"the value of {context} cannot be decrypted") from None
    return plaintext.decode()


def _associated_data(context: str, key_id: str) -> bytes:
    return f"{context}|{key_id}".encode()


def digest(secret: str) -> str:
    """Return the look-up digest of a secret in hex: HMAC-SHA-256 under the current pepper."""
    return digests(secret)[0]


def digests(secret: str) -> list[str]:
    """Return every digest a secret may be stored under: the current pepper's, then earlier ones."""
    peppers = _parse_peppers(settings.KEY_DIGEST_PEPPER, settings.KEY_DIGEST_PEPPER_FALLBACKS)
    return [hmac.digest(pepper, secret.encode(), "sha256").hex() for pepper in peppers]


@lru_cache(maxsize=8)
def _parse_peppers(text: str, fallbacks: str) -> list[bytes]:
    first = _parse_pepper("KEY_DIGEST_PEPPER", text)
    others = [
        _parse_pepper("KEY_DIGEST_PEPPER_FALLBACKS", part.strip())
        for part in fallbacks.split(",")
        if part.strip()
    ]
    return list(dict.fromkeys([first, *others]))


def _parse_pepper(setting: str, text: str) -> bytes:
    try:
        pepper = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pepper = b""
    if len(pepper) < 32:
        raise ImproperlyConfigured(
            f"{setting} must be at least 32 random bytes in base64; `make setup` writes one. "
            "Several earlier ones are separated by commas."
            if setting.endswith("FALLBACKS")
            else f"{setting} must be at least 32 random bytes in base64; `make setup` writes one."
        )
    return pepper


# --- Check values -------------------------------------------------------------------------------

# An HMAC under the secret itself. It shows whether two secrets are equal, and reveals no more about
# a secret than the ciphertexts and digests stored beside it.
_CHECK = b"gateway check value"
PEPPER_ID_CHARACTERS = 12


def check_values_of_ring() -> dict[str, str]:
    """Return the check value of each key in the ring by its id, the encrypting key first."""
    return dict(_check_values_of_ring(settings.ENCRYPTION_KEYS))


@lru_cache(maxsize=8)
def _check_values_of_ring(text: str) -> dict[str, str]:
    return {
        key_id: hmac.digest(key, _CHECK + f"|{key_id}".encode(), "sha256").hex()
        for key_id, key in parse_key_ring(text).items()
    }


def check_values_of_peppers() -> dict[str, str]:
    """Return the check value of each pepper by its id, the current pepper first.

    A pepper has no name, so its id is the beginning of its check value.
    """
    peppers = _parse_peppers(settings.KEY_DIGEST_PEPPER, settings.KEY_DIGEST_PEPPER_FALLBACKS)
    values = [hmac.digest(pepper, _CHECK, "sha256").hex() for pepper in peppers]
    return {value[:PEPPER_ID_CHARACTERS]: value for value in values}

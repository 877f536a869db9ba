"""The shape of an API key: prefix, 36 random characters, 6 characters of checksum.

Pure: no database, and no setting except the prefix. With the checksum, the gateway refuses a
mistyped or invented key before any query.
"""

from __future__ import annotations

import secrets
import string
import zlib

from django.conf import settings

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ALPHABET_SET = frozenset(ALPHABET)
RANDOM_CHARACTERS = 36
CHECKSUM_CHARACTERS = 6
_TAIL_CHARACTERS = RANDOM_CHARACTERS + CHECKSUM_CHARACTERS


def generate_key(*, is_test: bool) -> str:
    """Return a new key. Its 36 random base62 characters hold 214 bits."""
    body = key_prefix(is_test=is_test) + "".join(
        secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS)
    )
    return body + checksum(body)


def key_prefix(*, is_test: bool) -> str:
    """Return the fixed beginning of a live or test key."""
    return f"{settings.API_KEY_PREFIX}test_" if is_test else str(settings.API_KEY_PREFIX)


def checksum(body: str) -> str:
    """Return the CRC-32 of `body` in base62, most significant digit first, padded with 0."""
    value = zlib.crc32(body.encode())
    digits = ""
    for _ in range(CHECKSUM_CHARACTERS):
        value, remainder = divmod(value, 62)
        digits = ALPHABET[remainder] + digits
    return digits


def is_well_formed(key: str) -> bool:
    """Return whether a text has the prefix, length, alphabet and checksum of a key."""
    body, tail = key[:-CHECKSUM_CHARACTERS], key[-CHECKSUM_CHARACTERS:]
    prefix = key[:-_TAIL_CHARACTERS]
    return (
        prefix in (settings.API_KEY_PREFIX, f"{settings.API_KEY_PREFIX}test_")
        and _ALPHABET_SET.issuperset(key[len(prefix) :])
        and checksum(body) == tail
    )

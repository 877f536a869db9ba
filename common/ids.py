"""Identifiers: time-ordered UUIDs for rows, random ids for requests."""

from __future__ import annotations

import os
import re
import time
import uuid
from datetime import datetime

# What a caller may send as X-Request-Id; anything else, line breaks and terminal escapes
# included, is replaced, so that no log line can be forged.
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def uuid7() -> uuid.UUID:
    """Return a UUID version 7 (RFC 9562, section 5.7): milliseconds first, the rest random.

    Rows made one after the other lie side by side in the index, which keeps inserts cheap in
    large tables; the 74 random bits keep ids from being guessed.
    """
    value = int.from_bytes(os.urandom(10), "big") | (time.time_ns() // 1_000_000 << 80)
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=value)


def first_uuid7(moment: datetime) -> uuid.UUID:
    """Return the least id that uuid7() gives from a moment on: a range of time by primary key."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


def request_id_from(header: str | None) -> str:
    """Return the caller's request id where it is well-formed, a new one otherwise."""
    if header and REQUEST_ID_PATTERN.fullmatch(header):
        return header
    return "req_" + os.urandom(12).hex()

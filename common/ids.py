"""Identifiers: time-ordered UUIDs for rows, random ids for requests."""

from __future__ import annotations

import os
import re
import time
import uuid
from datetime import datetime

# What a caller may send as X-Request-Id. Anything else is replaced, line breaks and terminal
# escapes included, so that nobody can forge log lines.
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def uuid7() -> uuid.UUID:
    """Return a UUID version 7 (RFC 9562, section 5.7): milliseconds first, the rest random.

    Rows created one after the other are neighbours in the index, which keeps inserts cheap in large
    tables. The 74 random bits make ids impossible to guess.
    """
    value = int.from_bytes(os.urandom(10), "big") | (time.time_ns() // 1_000_000 << 80)
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=value)


def first_uuid7(moment: datetime) -> uuid.UUID:
    """Return the smallest id that uuid7() can return from `moment` on, to select by primary key."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


def request_id_from(header: str | None) -> str:
    """Return the caller's request id if it is well-formed, otherwise a new one."""
    if header and REQUEST_ID_PATTERN.fullmatch(header):
        return header
    return "req_" + os.urandom(12).hex()

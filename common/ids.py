"""Time-ordered UUIDs for rows."""

from __future__ import annotations

import os
import time
import uuid
from datetime import datetime


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

"""Version 7 UUIDs in time order."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

from common.db import uuid7

COUNT = 20_000


def test_a_uuid7_has_version_variant_and_the_present_millisecond(clock: Any) -> None:
    made = uuid7()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == time.time_ns() // 1_000_000


def test_uuid7s_sort_by_the_millisecond_they_were_made_in(clock: Any) -> None:
    made = []
    for _ in range(200):
        made.append(uuid7())
        clock.shift(0.001)
    assert made == sorted(made)
    assert [str(one) for one in made] == sorted(str(one) for one in made)
    assert [one.bytes for one in made] == sorted(one.bytes for one in made)


def test_uuid7s_of_one_millisecond_differ_in_all_74_random_bits(clock: Any) -> None:
    made = [uuid7() for _ in range(COUNT)]
    assert len(set(made)) == COUNT
    fixed = ~((1 << 80) - 1) | 0xF << 76 | 0x3 << 62  # time, version, variant
    seen_set = seen_clear = 0
    for one in made:
        seen_set |= one.int
        seen_clear |= ~one.int
    free = ((1 << 128) - 1) & ~fixed
    assert free.bit_count() == 74
    assert seen_set & free == seen_clear & free == free


def test_uuid7s_of_many_threads_differ() -> None:
    made: list[uuid.UUID] = []

    def work() -> None:
        made.extend([uuid7() for _ in range(1000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000

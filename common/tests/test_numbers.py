"""Large numbers in about three digits."""

from __future__ import annotations

import pytest

from common.pages.numbers import short_number


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10 k"),
        (21_069, "21.1 k"),
        (99_960, "100 k"),
        (293_412, "293 k"),
        (999_499, "999 k"),
        (999_500, "1 M"),
        (1_254_000, "1.25 M"),
        (81_748_000, "81.7 M"),
        (2_000_000_000, "2 B"),
    ],
)
def test_large_numbers_are_short(number: int, words: str) -> None:
    # No line breaks between a number and its unit.
    assert short_number(number) == words.replace(" ", "\N{NO-BREAK SPACE}")

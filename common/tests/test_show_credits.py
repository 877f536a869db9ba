"""Credits for people: exact, without trailing zeros."""

from __future__ import annotations

import pytest

from common.money import show_credits


@pytest.mark.parametrize(
    ("microcredits", "shown"),
    [
        (0, "0"),
        (1, "0.000001"),
        (-1, "-0.000001"),
        (1_500_000, "1.5"),
        (10_000_000, "10"),
        (1_234_500_000, "1,234.5"),
        (-1_234_000_000, "-1,234"),
        (10**15, "1,000,000,000"),
    ],
)
def test_credits_are_shown_exactly(microcredits: int, shown: str) -> None:
    assert show_credits(microcredits) == shown

"""Amounts of the operator's currency are exact, and rounded once, where people read them."""

from __future__ import annotations

from decimal import Decimal

from common.currency import exact_amount, percent_of, show_amount


def test_files_get_every_digit_and_people_four_decimals() -> None:
    assert exact_amount(1) == "0.000000000001"
    assert exact_amount(-1_234_500_000_000) == "-1.234500000000"
    assert show_amount(1_234_567_891_234_567) == "1,234.5679"
    assert show_amount(0) == "0.0000"
    assert show_amount(20_000_000) == "0.00002", "not 0"
    assert show_amount(-1) == "-0.000000000001"


def test_amounts_beyond_the_digits_of_a_float_stay_exact() -> None:
    assert exact_amount(10**30 + 1) == "1000000000000000000.000000000001"
    assert show_amount(123_456_789_012_345_678_900_000_000) == "123,456,789,012,345.6789"


def test_a_share_has_one_decimal() -> None:
    assert percent_of(1, 3) == Decimal("33.3")
    assert percent_of(-1, 2) == Decimal("-50.0")

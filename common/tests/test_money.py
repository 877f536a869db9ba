"""Credits: exact in both directions, rounded once, strict about what an amount is."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import MAX_MICROCREDITS, InvalidAmount, format_credits, parse_credits

amounts = st.integers(-MAX_MICROCREDITS, MAX_MICROCREDITS)


@given(amounts)
def test_what_is_formatted_parses_back(microcredits: int) -> None:
    assert parse_credits(format_credits(microcredits)) == microcredits


@given(st.integers())
def test_an_amount_is_formatted_exactly_with_six_decimals(microcredits: int) -> None:
    text = format_credits(microcredits)
    assert Fraction(text) == Fraction(microcredits, 1_000_000)
    assert len(text.partition(".")[2]) == 6
    assert text != "-0.000000"


@given(amounts)
def test_numbers_mean_the_same_as_their_text(microcredits: int) -> None:
    assert parse_credits(Decimal(microcredits).scaleb(-6)) == microcredits
    whole = microcredits // 1_000_000
    assert parse_credits(whole) == whole * 1_000_000


@pytest.mark.parametrize(
    ("text", "microcredits"),
    [
        ("250", 250_000_000),
        (" 0.5\n", 500_000),
        ("+1", 1_000_000),
        ("-1.000001", -1_000_001),
        ("1e3", 1_000_000_000),
        ("1E-6", 1),
        ("0.0000010000000", 1),
        ("-0", 0),
        ("1000000000", MAX_MICROCREDITS),
    ],
)
def test_reads_amounts(text: str, microcredits: int) -> None:
    assert parse_credits(text) == microcredits


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "abc", "1,5", "1.0.0", "--1", "0x10", "1 000", "$5", "NaN", "sNaN", "-nan123",
        "Infinity", "-inf", "0.0000001", "1e-7", "1e-999999999", "1.0000001", "9" * 50 + ".1",
        "1." + "0" * 45 + "1", "1e400", "1e999999999", "1e99999999999999999999", "\x00", "1\x002",
        "True", "None",
    ],
)  # fmt: skip
def test_refuses_what_is_no_amount(text: str) -> None:
    with pytest.raises(InvalidAmount):
        parse_credits(text)


@pytest.mark.parametrize("text", ["1000000000.000001", "-1000000001", "1e10", "1e300"])
def test_refuses_amounts_beyond_a_billion(text: str) -> None:
    with pytest.raises(InvalidAmount):
        parse_credits(text)


@pytest.mark.parametrize("value", [0.1, 1.0, math.inf, math.nan])
def test_refuses_binary_floats(value: float) -> None:
    with pytest.raises(InvalidAmount, match="binary float"):
        parse_credits(value)  # type: ignore[arg-type]


@given(st.text(max_size=30))
def test_any_text_is_an_exact_amount_or_refused(text: str) -> None:
    try:
        microcredits = parse_credits(text)
    except InvalidAmount:
        return
    assert Decimal(microcredits) == Decimal(text.strip()) * 1_000_000


def test_the_callers_decimal_context_neither_matters_nor_changes() -> None:
    with localcontext() as context:
        context.prec = 3
        assert parse_credits("123456.789012") == 123_456_789_012
        assert getcontext().prec == 3

"""The price of a reply: cached tokens are part of the input, and fractions are rounded up once."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.callers import ModelTerms
from channels.providers.base import Usage

prices = st.integers(0, 10**12)
tokens = st.integers(0, 10**9)


def terms(
    per_reply: int, per_1k_input: int, per_1k_output: int, per_1k_cached_input: int | None = None
) -> ModelTerms:
    return ModelTerms(
        id=1,
        model_id="some-model",
        context_window_tokens=8_192,
        max_output_tokens=1_024,
        per_reply=per_reply,
        per_1k_input=per_1k_input,
        per_1k_output=per_1k_output,
        per_1k_cached_input=per_1k_cached_input,
        hides_thinking=False,
        first_token_seconds=0,
        image_tokens=0,
    )


@given(prices, prices, prices, st.none() | prices, tokens, tokens, tokens)
def test_cached_tokens_are_that_part_of_the_input(
    per_reply: int,
    per_1k_input: int,
    per_1k_output: int,
    per_1k_cached_input: int | None,
    input_tokens: int,
    output_tokens: int,
    cached_input_tokens: int,
) -> None:
    price = terms(per_reply, per_1k_input, per_1k_output, per_1k_cached_input).price(
        Usage(input_tokens, output_tokens, cached_input_tokens)
    )
    cached = min(cached_input_tokens, input_tokens)
    per_1k_cached = per_1k_input if per_1k_cached_input is None else per_1k_cached_input
    thousandths = per_1k_input * (input_tokens - cached) + per_1k_cached * cached
    exact = per_reply + Fraction(thousandths + per_1k_output * output_tokens, 1000)
    assert price == math.ceil(exact)
    at_most = terms(per_reply, max(per_1k_input, per_1k_cached), per_1k_output).price(
        Usage(input_tokens, output_tokens)
    )
    # A hold prices all input as uncached. That is enough if cached input costs no more.
    assert price <= at_most


@given(prices, prices, prices, tokens, tokens)
def test_a_price_is_the_exact_sum_rounded_up_once(
    per_reply: int, per_1k_input: int, per_1k_output: int, input_tokens: int, output_tokens: int
) -> None:
    price = terms(per_reply, per_1k_input, per_1k_output).price(Usage(input_tokens, output_tokens))
    exact = per_reply + Fraction(per_1k_input * input_tokens + per_1k_output * output_tokens, 1000)
    assert price == math.ceil(exact)
    assert 0 <= price - exact < 1


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "price"),
    [(0, 0, 5), (1, 0, 6), (500, 500, 6), (501, 500, 7), (1000, 0, 6), (1001, 0, 7)],
)
def test_two_fractions_are_added_before_they_are_rounded(
    input_tokens: int, output_tokens: int, price: int
) -> None:
    assert price == terms(5, 1, 1).price(Usage(input_tokens, output_tokens))

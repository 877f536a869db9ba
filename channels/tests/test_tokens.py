"""Token counts without a tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.providers.tokens import estimate_tokens, fitting_tokens, most_tokens

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=500)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("x" * 400, 100), ("中文", 1)],
)
def test_an_estimate_is_four_characters_a_token_rounded_up(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_fitting_counts_chinese_about_one_token_a_character() -> None:
    template = fitting_tokens("")
    assert fitting_tokens("x" * 4000) - template == 1000
    assert 1000 <= fitting_tokens("中" * 1000) - template <= 1100


@given(texts)
def test_the_three_counts_are_in_order(text: str) -> None:
    assert estimate_tokens(text) <= fitting_tokens(text) <= most_tokens(text)
    assert most_tokens(text) >= len(text.encode())


@given(texts, texts)
def test_a_longer_text_never_counts_less(text: str, more: str) -> None:
    for count in (estimate_tokens, fitting_tokens, most_tokens):
        assert count(text + more) >= count(text)

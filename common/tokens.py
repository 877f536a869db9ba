"""Token counts without a tokenizer: an estimate for bills, one for fitting, an upper bound."""

from __future__ import annotations

CHARACTERS_PER_TOKEN = 4
# What a chat template adds around a message: role and separators. Llama 3's takes five.
TEMPLATE_TOKENS_PER_MESSAGE = 5


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text is: four characters each, rounded up.

    What is billed where a provider reports no usage. Some 20 % off for English; scripts such as
    Chinese take up to four times as many.
    """
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def fitting_tokens(text: str) -> int:
    """Return how many tokens to reckon with when fitting a message into a context window.

    Four characters a token, two fifths of a token more for each byte of UTF-8 beyond one a
    character (so Chinese counts about one token a character), and the chat template's own.
    """
    extra_bytes = 0 if text.isascii() else len(text.encode()) - len(text)
    return (5 * len(text) + 8 * extra_bytes) // 20 + 1 + TEMPLATE_TOKENS_PER_MESSAGE


def most_tokens(text: str) -> int:
    """Return a number of tokens that no tokenizer exceeds: one for each byte of UTF-8.

    Byte-level tokenizers never make more tokens than bytes.
    """
    return len(text.encode()) + 2 * TEMPLATE_TOKENS_PER_MESSAGE

"""Token counts without a tokenizer: one to bill by, one to fit prompts by, and an upper bound."""

from __future__ import annotations

CHARACTERS_PER_TOKEN = 4
# What a chat template adds to a message: role and separators. Llama 3 adds five tokens.
TEMPLATE_TOKENS_PER_MESSAGE = 5


def estimate_tokens(text: str) -> int:
    """Return an estimate of a text's tokens: four characters each, rounded up.

    Used for billing if a provider reports no usage. Off by about 20 % for English; scripts such as
    Chinese take up to four times as many tokens.
    """
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def fitting_tokens(text: str) -> int:
    """Return the tokens to allow for a message when fitting it into a context window.

    Counts four characters a token, two fifths of a token for each UTF-8 byte beyond one a character
    (so a Chinese character is about one token), and the chat template's tokens.
    """
    extra_bytes = 0 if text.isascii() else len(text.encode()) - len(text)
    return (5 * len(text) + 8 * extra_bytes) // 20 + 1 + TEMPLATE_TOKENS_PER_MESSAGE


def most_tokens(text: str) -> int:
    """Return an upper bound for every tokenizer: one token for each byte of UTF-8.

    Byte-level tokenizers never produce more tokens than bytes.
    """
    return len(text.encode()) + 2 * TEMPLATE_TOKENS_PER_MESSAGE

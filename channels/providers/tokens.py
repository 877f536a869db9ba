"""The tokens of a call: read under providers' names, described to callers, or else estimated."""

from __future__ import annotations

from typing import Any

from channels.providers.base import Usage

CHARACTERS_PER_TOKEN = 4
# What a chat template adds to a message: role and separators. Llama 3 adds five tokens.
TEMPLATE_TOKENS_PER_MESSAGE = 5


def read_usage(usage: dict[str, Any]) -> Usage | None:
    """Return the tokens that a provider reports. None unless input and output are readable.

    If the total exceeds input plus output, the rest is reasoning that the output left out.
    """
    input_tokens = _count(usage, "prompt_tokens", "input_tokens")
    output_tokens = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens")
    if input_tokens is None or (output_tokens is None and total is None):
        return None
    output_tokens = max(output_tokens or 0, (total or 0) - input_tokens)
    of_input = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    of_output = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    cached = _count(of_input, "cached_tokens")
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens", "cache_read_input_tokens")
    reasoning = _count(of_output, "reasoning_tokens")
    if reasoning is None:
        reasoning = _count(usage, "reasoning_tokens")
    return Usage(
        input_tokens,
        output_tokens,
        cached_input_tokens=None if cached is None else min(cached, input_tokens),
        reasoning_tokens=None if reasoning is None else min(reasoning, output_tokens),
    )


def _count(usage: Any, *names: str) -> int | None:
    """Return the first of these members that is not None, if it is a whole number. Otherwise None.

    Some providers write it as a float, or as a string of digits.
    """
    for name in names if isinstance(usage, dict) else ():
        if (value := usage.get(name)) is not None:
            break
    else:
        return None
    if type(value) is int:  # nearly always
        return value if 0 <= value < 2**53 else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    if not isinstance(value, float):
        return None
    # A float is not exact beyond 2**53, and may be infinite or NaN.
    return int(value) if 0 <= value < 2**53 and value == int(value) else None


def describe_usage(usage: Usage) -> dict[str, Any]:
    """Return the tokens of a call in the words of every endpoint.

    Has details if the provider reported any, and says so if the figures are estimated.
    """
    counts: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_input_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached_input_tokens}
    if usage.reasoning_tokens is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.is_estimated:
        counts["estimated"] = True
    return counts


# --- Without a tokenizer: to bill by, to fit prompts by, and an upper bound -----------------------


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

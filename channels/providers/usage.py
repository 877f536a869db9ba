"""Reads how many tokens a call used, under the names that providers use."""

from __future__ import annotations

from typing import Any

from channels.providers.base import Usage


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
    of_input = _details(usage, "prompt_tokens_details", "input_tokens_details")
    of_output = _details(usage, "completion_tokens_details", "output_tokens_details")
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


def _details(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    found: Any = None
    for name in names:
        found = found or usage.get(name)
    return found if isinstance(found, dict) else {}


def _count(usage: dict[str, Any], *names: str) -> int | None:
    """Return the first of these members that is not None, if it is a whole number. Otherwise None.

    Some providers write it as a float, or as a string of digits.
    """
    for name in names:
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

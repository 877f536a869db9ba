"""A provider's refusal in its own words, as far as a caller of /v1 may read them.

The caller sees code, param, and message as they would without the gateway. The caller does not see
what belongs to the operator or the channel's owner: keys, organisations, addresses, names of
providers, the providers' names of models, and the channel's prompt.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import orjson

from channels.errors import Said
from common.api.openai_shape import openai_status_of

LONGEST_MESSAGE = 500
# How much of a message is read. Masks shorten it, so this is more than what is shown.
_READ_CHARACTERS = 4 * LONGEST_MESSAGE
_LONGEST_PARAM = 200
# This many characters in a row that are also in the prompt are a quotation. Ignores white space.
QUOTED_CHARACTERS = 20
# A shorter prompt is a word or two, which any message may contain.
_SHORTEST_PROMPT = 8
_NEUTRAL = "The AI provider refused this request. Nothing was charged."

# The name of PROVIDER_BASE_URL's provider is a common word in messages, so it is not masked.
_NO_PROVIDERS = frozenset({"default"})

_MASKS = (
    # Addresses that contain a query or a password. Either may be a secret.
    (re.compile(r"\b\w+://[^\s\"'<>]*[?@][^\s\"'<>]*"), "[address]"),
    (re.compile(r"\bBearer\s+[^\s\"',;]+", re.IGNORECASE), "Bearer [key]"),
    (
        re.compile(r"\b([\w-]*(?:key|token|secret|password))(\s?=\s?)[^\s\"',;&]+", re.IGNORECASE),
        r"\1\2[key]",
    ),
    (
        re.compile(
            r"\b(?:sk|pk|rk|gsk|xai|hf|nvapi|csk|fw|pplx|tgp|r8|amgai)[-_][\w*.…-]{6,}"
            r"|\bAIza[\w*.…-]{6,}",
            re.IGNORECASE,
        ),
        "[key]",
    ),
    (re.compile(r"\b(?:org|organization|proj|project|acct)[-_]\w[\w-]*\d[\w-]*"), "[account]"),
    (re.compile(r"\b(?:org|proj)[-_]\w[\w-]*"), "[account]"),
)
# messages[3], messages.3, messages.[3], messages/3, ['messages', 3], message at index 3.
_INDEX = re.compile(
    r"\b(messages?|input)(['\"]?[\]\[./]{1,2}|['\"], ?| (?:at )?index )(\d{1,6})\b(\]?)",
    re.IGNORECASE,
)
_CODE = re.compile(r"[\w.:/-]{1,50}")


def as_callers_read(
    said: Said | None,
    *,
    model_id: str,
    provider_names: Collection[str],
    system_prompt: str,
    request: Any,
    indexes: Sequence[int | None],
) -> Said:
    """Return what a provider said, and mask everything that is not the caller's.

    `model_id` replaces the provider's name of the model. `request` is the part of the caller's
    request that the model sees. Quoting callers to themselves leaks nothing, and if such quotes
    were hidden, a caller could find out the prompt by guessing. `indexes` maps the index of each
    message we sent to the caller's index, or to None for a message of ours.
    """
    if said is None:
        return Said(message=_NEUTRAL)
    message, param = said.message[:_READ_CHARACTERS], said.param[:_LONGEST_PARAM]
    theirs = orjson.dumps(request).decode()
    if _quotes(f"{message}\n{param}", system_prompt, theirs):
        message, param = _NEUTRAL, ""
    names = _names_of(said.model)
    param = _masked(as_callers_count(param, indexes), names, model_id, ())
    message = _masked(as_callers_count(message, indexes), names, model_id, provider_names)
    code = said.code if _CODE.fullmatch(said.code) else ""
    if openai_status_of(code, 400) != 400:
        code = ""  # the gateway uses this code too, with another meaning
    if "[" in _masked(code, names, model_id, provider_names):
        code = ""
    return replace(
        said, model=model_id, code=code, param=param, message=_cut(message.strip()) or _NEUTRAL
    )


def as_callers_count(text: str, indexes: Sequence[int | None]) -> str:
    """Return a text with its message indexes replaced by the caller's.

    A message of ours is called the channel's prompt. If the text is nothing but its path, as in
    `param`, returns an empty string, because a param names a member of the caller's request.
    """

    def put(found: re.Match[str]) -> str:
        index = int(found[3])
        if index >= len(indexes):
            return found[0]
        theirs = indexes[index]
        if theirs is None:
            return "the channel's prompt"
        return f"{found[1]}{found[2]}{theirs}{found[4]}"

    if (whole := _INDEX.match(text)) and " " not in text and put(whole) == "the channel's prompt":
        return ""
    return _INDEX.sub(put, text)


def _names_of(model: str) -> list[str]:
    """Return the provider's name of a model, with and without the maker's name."""
    return [name for name in (model, model.rpartition("/")[2]) if len(name) > 1]


def _masked(text: str, names: Sequence[str], model_id: str, provider_names: Collection[str]) -> str:
    for name in names:
        text = re.sub(_word(name), lambda _: model_id, text, flags=re.IGNORECASE)
    for name in set(provider_names) - _NO_PROVIDERS:
        text = re.sub(_word(name), "the AI provider", text, flags=re.IGNORECASE)
    for expression, mask in _MASKS:
        text = expression.sub(mask, text)
    return text


def _word(name: str) -> str:
    return rf"(?<![\w-]){re.escape(name)}(?![\w-])"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1]}…"


# --- Quotations of the prompt ---------------------------------------------------------------------


def _quotes(text: str, system_prompt: str, theirs: str) -> bool:
    """Return whether a text quotes a piece of the prompt that the caller has not sent."""
    prompt = _plain(system_prompt)
    size = min(QUOTED_CHARACTERS, len(prompt))
    if size < _SHORTEST_PROMPT:
        return False
    pieces = {prompt[start : start + size] for start in range(len(prompt) - size + 1)}
    known = _plain(theirs) + _plain(_unescaped(theirs))
    return any(
        said[start : start + size] in pieces and said[start : start + size] not in known
        for said in {_plain(text), _plain(_unescaped(text))}
        for start in range(len(said) - size + 1)
    )


def _plain(text: str) -> str:
    """Return a text without case and white space."""
    return "".join(text.casefold().split())


def _unescaped(text: str) -> str:
    """Return a text without the escapes of JSON, Python, or HTML."""

    def put(found: re.Match[str]) -> str:
        return chr(int(found[1], 16)) if found[1] else " " if found[2] in "nrt" else found[2]

    return re.sub(r"\\+(?:u([0-9a-fA-F]{4})|(.))", put, html.unescape(text))

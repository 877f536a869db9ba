"""What a provider said of a request it refused, as the caller of /v1 may read it.

The caller sees code, param and message as without the gateway. They do not see what is the
operator's or the channel owner's: keys, organisations, addresses, names of providers and of models
there, and the channel's prompt.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import orjson

from channels.errors import Said
from common.openai_shape import openai_status_of

LONGEST_MESSAGE = 500
# Read of a message: masks make it shorter, so that more than is shown has to be looked at.
_READ_CHARACTERS = 4 * LONGEST_MESSAGE
_LONGEST_PARAM = 200
# So many characters in a row that stand in the prompt, white space aside, are a quotation.
QUOTED_CHARACTERS = 20
# A prompt below this is a word or two, which any message may have in it.
_SHORTEST_PROMPT = 8
_NEUTRAL = "The AI provider refused this request. Nothing was charged."

# The name of PROVIDER_BASE_URL's provider is a word of every other message.
_NO_PROVIDERS = frozenset({"default"})

_MASKS = (
    # Addresses with a query or a password in them; either may be a secret.
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
    """Return what a provider said with all that is not the caller's masked.

    `model_id` stands for the provider's own name of the model. `request` is what the caller sent,
    as far as it is shown to the model: quoting the caller to themselves is no leak, and were it
    hidden, a caller could find out the prompt by guessing at it. `indexes` gives for the index of
    each message sent the caller's own, None for one of ours.
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
        code = ""  # one of the gateway's own, which says something else
    if "[" in _masked(code, names, model_id, provider_names):
        code = ""
    return replace(
        said, model=model_id, code=code, param=param, message=_cut(message.strip()) or _NEUTRAL
    )


def as_callers_count(text: str, indexes: Sequence[int | None]) -> str:
    """Return a text with the indexes of messages in it as the caller counts them.

    One of ours is called the channel's prompt; as the whole of a param, which names a member of the
    caller's, it is nothing.
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
    """Return the provider's name of a model, whole and without its maker's."""
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
    """Tell whether a text has a piece of the prompt in it that the caller has not sent."""
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
    """Return a text as it was before somebody wrote it as JSON, Python or HTML."""

    def put(found: re.Match[str]) -> str:
        return chr(int(found[1], 16)) if found[1] else " " if found[2] in "nrt" else found[2]

    return re.sub(r"\\+(?:u([0-9a-fA-F]{4})|(.))", put, html.unescape(text))

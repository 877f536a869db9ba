"""Lessons from refusals: which form of a request a route may accept instead.

A lesson only says what to try next. The gateway keeps it once the provider has accepted the request
in that form (channels/adaptation.py), so a tenant cannot teach a wrong lesson with a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from channels.errors import ProviderError
from channels.providers.base import ChatRequest
from channels.providers.faults import CONTEXT_LENGTH_EXCEEDED
from channels.providers.traits import NO_SYSTEM_ROLE, ONE_SYSTEM_MESSAGE, REFUSABLE, Traits

_LIMIT_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_REFUSED = (
    r"unsupported|not (?:supported|permitted|allowed|recognized)|unknown|unrecogni[sz]ed|unexpected"
    r"|extra (?:inputs|fields)|extra_forbidden|deprecated|(?:n't|not) support|only \d is allowed"
)
_NOT_TAKEN = re.compile(rf"{_REFUSED}|\buse\b", re.IGNORECASE)
# Providers' names for the options that a route may refuse.
_OPTION_NAMES = {
    "temperature": r"\btemperature\b",
    "stop": r"\bstop(?:[ _](?:sequence|word|token)s?)?\b",
}
# A route that refuses only this value, or only this combination, takes the option otherwise.
_AT_TIMES = re.compile(
    r"less than|greater than|between|\brange\b|maximum|minimum|above|below|[<>]=|at (?:most|least)"
    r"|too (?:many|long|high)|\b(?:both|together|when|while|unless|if|combination|combined)\b",
    re.IGNORECASE,
)
_TEXT_WANTED = re.compile(
    r"(expected|should be|must be|not) an? (valid )?str(ing)?\b|invalid type: (sequence|array|list)"
    r"|content\b.{0,60}\b(must|should) be (a )?(str|string|text)\b",
    re.IGNORECASE,
)
_ONE_SYSTEM = re.compile(
    r"system (message|prompt|role|content)s?.{0,80}\b(first|begin\w*|start|once|single|one)\b"
    r"|multiple system"
    r"|(one|single|first|multiple|more than one).{0,40}\bsystem\b|\bdeveloper\b",
    re.IGNORECASE | re.DOTALL,
)
_NO_SYSTEM = re.compile(
    r"(?:system|developer)\W{0,3} ?(role|message|prompt|instruction)?s?.{0,40}(not|n't|un|in)[ -]?"
    r"(supported|allowed|valid|enabled)|(invalid|unsupported|unknown) role.{0,20}system"
    r"|roles must alternate|system role",
    re.IGNORECASE | re.DOTALL,
)
# The size of the route's window, or of its longest answer, in the providers' own sentences.
_WINDOW = re.compile(
    r"(?:maximum |max )?context (?:length|window|size)(?: is| of|:)*(?: only)? ?\(?(\d[\d,]*)"
    r"|model with (\d[\d,]*) maximum context|\+ \W?max_new_tokens\W? must be <= (\d[\d,]*)"
    r"|tokens > (\d[\d,]*) maximum|maximum (?:prompt|input) length is (\d[\d,]*)"
    r"|maximum context length of [\w./-]+ is (\d[\d,]*)|token limit:? (?:of )?(\d[\d,]*)"
    r"|max length: ?(\d[\d,]*)|range of input length should be \[1, ?(\d[\d,]*)"
    r"|max_seq_len \((\d[\d,]*)|sequence length (\d[\d,]*)|context limit:.* > (\d[\d,]*)"
    r"|current length is \d+ while limit is (\d[\d,]*)"
    r"|tokens allowed \(?(\d[\d,]*)|n_ctx\D{1,4}(\d[\d,]*)|maximum of (\d[\d,]*) tokens",
    re.IGNORECASE,
)
_LONGEST_ANSWER = re.compile(
    r"(?:less than(?: or equal to)?|at most|<=|limit of|range 1\.\."
    r"|maximum(?: value)?(?: is| of)?|max(?:imum)? allowed(?: is)?|up to|[\[(]1, ?"
    r"|> ) ?`?(\d[\d,]*)",
    re.IGNORECASE,
)
# A smaller number is not a window or an answer's length: the sentence is probably about something
# else. If the gateway learned it, it would cut short every tenant's conversations and answers.
_SMALLEST_WINDOW = 512
_SHORTEST_ANSWER = 64
_NAMES_PROMPT = re.compile(r"\b(input|prompt|messages|context)\b", re.IGNORECASE)
_NAMES_LIMIT = re.compile(r"max_(completion_|new_|output_)?tokens|max(imum)? tokens", re.IGNORECASE)


def learn(
    error: ProviderError, request: ChatRequest, traits: Traits, *, tried: Collection[Traits] = ()
) -> Traits | None:
    """Return the traits to try after a request with `traits` was refused. None: do not retry.

    Returns none of those that were `tried`.
    """
    if error.status not in (0, 400, 404, 413, 422, 500):  # 0: an error event instead of a stream
        return None
    for lesson in _LESSONS:
        learned = lesson(error.words, request, traits)
        if learned is not None and learned != traits and learned not in tried:
            return learned
    return None


def without_named(error: ProviderError, request: ChatRequest) -> ChatRequest | None:
    """Return the request without those of the channel's options that a refusal names, or None.

    For a refusal that teaches nothing, because it may be about this one value.
    """
    if not error.is_refusal or error.reason == CONTEXT_LENGTH_EXCEEDED:
        return None
    named = [
        name
        for name in request.channel_options & REFUSABLE.keys()
        if re.search(_OPTION_NAMES[name], error.words, re.IGNORECASE)
    ]
    return request.without_options(named) if named else None


def _window(words: str, request: ChatRequest, traits: Traits) -> Traits | None:
    found = _number(_WINDOW, words, request)
    if found is None or not _SMALLEST_WINDOW <= found < (traits.context_window_tokens or 10**9):
        return None
    return replace(traits, context_window_tokens=found)


def _longest_answer(words: str, request: ChatRequest, traits: Traits) -> Traits | None:
    # The room that a long prompt leaves concerns only that prompt. If the gateway learned it, it
    # would cut short every tenant's answers.
    if not _NAMES_LIMIT.search(words) or _NAMES_PROMPT.search(words):
        return None
    asked = min(request.max_output_tokens, traits.max_output_tokens or 10**9)
    founds = [found for found in _LONGEST_ANSWER.finditer(words) if not _quotes(found[0], request)]
    numbers = [_whole(found[1]) for found in founds]
    smaller = [number for number in numbers if _SHORTEST_ANSWER <= number < asked]
    return replace(traits, max_output_tokens=max(smaller)) if smaller else None


def _ignored(words: str, request: ChatRequest, traits: Traits) -> Traits | None:
    # A caller's own parameters may be why the route refuses what it takes otherwise, such as a
    # temperature beside `reasoning_effort`.
    if not request.options.keys() <= request.channel_options or _AT_TIMES.search(words):
        return None
    for name in sorted(REFUSABLE.keys() - traits.ignored()):
        called = _OPTION_NAMES[name]
        near = rf"{called}[^.]{{0,60}}?(?:{_REFUSED})|(?:{_REFUSED})[^.]{{0,60}}?{called}"
        found = re.search(near, words, re.IGNORECASE) if name in request.options else None
        if found and not _quotes(found[0], request):
            trait: dict[str, Any] = {REFUSABLE[name]: True}
            return replace(traits, **trait)
    return None


def _limit_name(words: str, request: ChatRequest, traits: Traits) -> Traits | None:
    sent = traits.limit_name or request.limit_name
    is_named = re.search(rf"\b{sent}\b", words)
    return (
        replace(traits, limit_name=_LIMIT_NAMES[sent])
        if is_named and _NOT_TAKEN.search(words)
        else None
    )


def _stream_options(words: str, request: ChatRequest, traits: Traits) -> Traits | None:
    is_named = "stream_options" in words and not _quotes("stream_options", request)
    return replace(traits, has_stream_options=False) if is_named else None


def _text_content(words: str, request: ChatRequest, traits: Traits) -> Traits | None:
    has_parts = any(isinstance(message.get("content"), list) for message in request.messages)
    is_wanted = has_parts and _TEXT_WANTED.search(words)
    return replace(traits, has_text_content=True) if is_wanted else None


def _system_messages(words: str, request: ChatRequest, traits: Traits) -> Traits | None:
    roles = [message["role"] for message in request.messages]
    if not {"system", "developer"} & set(roles):
        return None
    is_one_already = traits.system_messages or (
        "developer" not in roles and "system" not in roles[1:]
    )
    if _ONE_SYSTEM.search(words) and not is_one_already:
        return replace(traits, system_messages=ONE_SYSTEM_MESSAGE)
    if _NO_SYSTEM.search(words):
        return replace(traits, system_messages=NO_SYSTEM_ROLE)
    return None


_LESSONS: tuple[Callable[[str, ChatRequest, Traits], Traits | None], ...] = (
    _window,
    _stream_options,
    _longest_answer,
    _ignored,
    _limit_name,
    _system_messages,
    _text_content,
)


def _number(pattern: re.Pattern[str], words: str, request: ChatRequest) -> int | None:
    """Return the number in a provider's sentence, unless the request contains that sentence."""
    founds = (found for found in pattern.finditer(words) if not _quotes(found[0], request))
    if (found := next(founds, None)) is None:
        return None
    return _whole(next(group for group in found.groups() if group))


def _whole(digits: str) -> int:
    """Return a number from a sentence, with at most 12 digits. Larger ones make no difference."""
    return int(digits.replace(",", "")[:12])


def _quotes(said: str, request: ChatRequest) -> bool:
    """Return whether the request itself contains these words of an error, anywhere."""
    contents = [str(message.get("content")) for message in request.messages]
    contents += [str(request.messages), str(request.options)]
    return any(said.lower() in content.lower() for content in contents)

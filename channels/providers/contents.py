"""Reads what a message says where that is more than a string: parts of several kinds."""

from __future__ import annotations

from typing import Any, NamedTuple

# Parts of a content that are thoughts.
_THOUGHT_PARTS = ("thinking", "reasoning", "reasoning_text")
_TEXT_PARTS = ("text", "output_text")
_KNOWN_PARTS = (*_THOUGHT_PARTS, *_TEXT_PARTS, "refusal")
# Where a thought, or a part of one, has its text; Databricks has a summary of it alone.
_THOUGHT_NAMES = ("thinking", "text", "content", "reasoning", "summary", "value")
# Members that only name a part.
_NAMING = ("type", "id", "index")
# So deep may a part of a content be nested.
_DEEPEST = 8


class Content(NamedTuple):
    """What a content says. `others` are parts of other kinds, as they came."""

    text: str
    thoughts: str = ""
    refusal: str = ""
    others: list[Any] | None = None


def read_content(content: Any) -> Content:
    """Return what a content says: a text, a part, or several."""
    if isinstance(content, str):
        return Content(content)
    found: dict[str, list[str]] = {"text": [], "thoughts": [], "refusal": []}
    others: list[Any] = []
    for part in content if isinstance(content, list) else [content]:
        kind, text = _kind_and_text(part)
        if text:
            found[kind].append(text)
        elif not _is_empty(part):
            others.append(part)
    text, thoughts, refusal = map("".join, found.values())
    return Content(text, thoughts, refusal, others)


def is_of_a_kind(part: Any) -> bool:
    """Tell whether a part says itself what it is, such as an image."""
    return isinstance(part, dict) and isinstance(part.get("type"), str)


def text_of_thoughts(value: Any, depth: int = 0) -> str:
    """Return the text of thoughts: a string, or parts and objects with one; else nothing."""
    if isinstance(value, list) and depth < _DEEPEST:
        return "".join(text_of_thoughts(part, depth + 1) for part in value)
    if isinstance(value, dict) and depth < _DEEPEST:
        texts = (text_of_thoughts(value.get(name), depth + 1) for name in _THOUGHT_NAMES)
        return next(filter(None, texts), "")
    return value if isinstance(value, str) else ""


def _kind_and_text(part: Any) -> tuple[str, str]:
    """Return what a part of a content is, and its text; no text where nobody can read it."""
    if isinstance(part, str):
        return "text", part
    if not isinstance(part, dict):
        return "", ""
    kind = part.get("type", "text")
    if not isinstance(kind, str):
        return "", ""
    if kind in _THOUGHT_PARTS:
        return "thoughts", text_of_thoughts(part)
    if kind == "refusal":
        return "refusal", _flat(part.get("refusal"))
    text = _flat(part.get("text")) if kind in _TEXT_PARTS else ""
    return "thoughts" if part.get("thought") is True else "text", text


def _is_empty(part: Any) -> bool:
    """Tell whether a part says nothing but what it would be, as the first one of a stream may."""
    if isinstance(part, dict) and part.get("type") in _KNOWN_PARTS:
        return not any(value for name, value in part.items() if name not in _NAMING)
    return part is None or part == ""


def _flat(value: Any, depth: int = 0) -> str:
    """Return the text of a part: a string, or parts and objects with one."""
    if isinstance(value, list) and depth < _DEEPEST:
        return "".join(_flat(part, depth + 1) for part in value)
    if isinstance(value, dict) and depth < _DEEPEST:
        return _flat(value.get("text") or value.get("value"), depth + 1)
    return value if isinstance(value, str) else ""

"""Reads the content of a message, which may be a string or parts of several kinds."""

from __future__ import annotations

from typing import Any, NamedTuple

# Types of content parts that are thoughts.
_THOUGHT_PARTS = ("thinking", "reasoning", "reasoning_text")
_TEXT_PARTS = ("text", "output_text")
_KNOWN_PARTS = (*_THOUGHT_PARTS, *_TEXT_PARTS, "refusal")
# Members that hold the text of a thought or a part of one. Databricks sends only a summary.
_THOUGHT_NAMES = ("thinking", "text", "content", "reasoning", "summary", "value")
# Members that only identify a part.
_NAMING = ("type", "id", "index")
# The deepest nesting of a content part that is read.
_DEEPEST = 8


class Content(NamedTuple):
    """What a content says. `others` are parts of other kinds, unchanged."""

    text: str
    thoughts: str = ""
    refusal: str = ""
    others: list[Any] | None = None


def read_content(content: Any) -> Content:
    """Return what a content says. It may be a text, a part, or a list of them."""
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
    """Return whether a part names its type, as an image does."""
    return isinstance(part, dict) and isinstance(part.get("type"), str)


def text_of_thoughts(value: Any, depth: int = 0) -> str:
    """Return the text of thoughts, from a string or nested parts and objects, or ''."""
    if isinstance(value, list) and depth < _DEEPEST:
        return "".join(text_of_thoughts(part, depth + 1) for part in value)
    if isinstance(value, dict) and depth < _DEEPEST:
        texts = (text_of_thoughts(value.get(name), depth + 1) for name in _THOUGHT_NAMES)
        return next(filter(None, texts), "")
    return value if isinstance(value, str) else ""


def _kind_and_text(part: Any) -> tuple[str, str]:
    """Return the kind of a content part, and its text, or '' if that is unreadable."""
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
    """Return whether a part holds only its type, as the first part of a stream may."""
    if isinstance(part, dict) and part.get("type") in _KNOWN_PARTS:
        return not any(value for name, value in part.items() if name not in _NAMING)
    return part is None or part == ""


def _flat(value: Any, depth: int = 0) -> str:
    """Return the text of a part, from a string or nested parts and objects."""
    if isinstance(value, list) and depth < _DEEPEST:
        return "".join(_flat(part, depth + 1) for part in value)
    if isinstance(value, dict) and depth < _DEEPEST:
        return _flat(value.get("text") or value.get("value"), depth + 1)
    return value if isinstance(value, str) else ""

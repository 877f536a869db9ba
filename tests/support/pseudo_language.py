"""A language that puts marks around every translated text, and what pages show outside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from gettext import NullTranslations
from html.parser import HTMLParser
from typing import Any

from django.apps import apps
from django.db import models

OPEN, CLOSE = "⟦", "⟧"
# Same in every language: names, units, formats, and what callers write in code.
SAME = frozenset(
    [
        "AI",
        "API",
        "OpenAPI",
        "Simulate",
        "overloaded",
        "slow",
        "APIs",
        "UTC",
        "URL",
        "URLs",
        "JSON",
        "JSONL",
        "CSV",
        "HTTP",
        "HTTPS",
        "HTML",
        "SSE",
        "SDK",
        "OpenAI",
        "cURL",
        "curl",
        "Python",
        "PHP",
        "JavaScript",
        "Node",
        "Java",
        "Ruby",
        "Go",
        "ms",
        "min",
        "h",
        "d",
        "px",
        "MB",
        "KB",
        "KiB",
        "MiB",
        "kB",
        "TOTP",
        "PostgreSQL",
        "SQLite",
        "Redis",
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "Chrome",
        "Firefox",
        "Safari",
        "Linux",
        "Windows",
        "ID",
        "Ctrl",
        "XXXX",
    ]
)
# Attributes that people see or hear.
SHOWN = (
    "aria-label", "aria-description", "aria-valuetext", "aria-roledescription", "title",
    "placeholder", "alt", "label", "data-label", "data-copied", "data-confirm", "summary",
)  # fmt: skip
# Elements whose text is data or code.
DATA = ("script", "style", "code", "pre", "kbd", "samp", "bdi", "textarea")
VOID = ("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr")
# A translated sentence ends here at the latest, so that a mark lost by shortening hides no more.
BLOCKS = (
    "p", "div", "li", "td", "th", "tr", "h1", "h2", "h3", "h4", "section", "button", "option",
    "label", "dt", "dd", "title", "summary", "legend", "nav", "header", "main", "form", "caption",
)  # fmt: skip
_NOT_WORDS = re.compile(
    r"https?://\S*|\S+@[\w.-]+|[\w./-]*/[\w./-]+|[\w-]+_[\w_-]+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b"
    r"|\b\w*\d\w*\b|\b[a-z]+\.[a-z.]+\b|…\w*|\w*…"
)
_WORD = re.compile(r"[^\W\d_]{2,}")


class Marked(NullTranslations):
    """Puts every text between marks. Django takes it for a language."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

    def to_language(self) -> str:
        return self.code

    language = to_language

    def gettext(self, message: str) -> str:
        text = message.rpartition("\x04")[2]
        if text == "yes,no,maybe":
            return ",".join(f"{OPEN}{part}{CLOSE}" for part in text.split(","))
        return f"{OPEN}{text}{CLOSE}" if text.strip() else text

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)


class Finder(HTMLParser):
    """Collects what a page shows outside the marks."""

    def __init__(self, data: re.Pattern[str] | None) -> None:
        super().__init__()
        self.data = data
        self.found: list[str] = []
        self.depth = 0
        self.skipped: list[str] = []
        self.json = ""
        self.is_json = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if not self.skipped and not self.depth:
            for name in SHOWN:
                if name in values:
                    self.see(values[name], f"{tag} {name}")
            if tag == "input" and values.get("type") in ("submit", "button", "reset"):
                self.see(values.get("value", ""), "input value")
            if tag == "meta" and values.get("name") == "description":
                self.see(values.get("content", ""), "meta description")
        self.is_json = tag == "script" and values.get("type") == "application/json"
        if tag in VOID:
            return
        is_data = tag in DATA or values.get("translate") == "no"
        is_data |= "material-symbols" in values.get("class", "")
        is_data |= tag != "html" and "lang" in values
        if self.skipped or is_data:
            self.skipped.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.is_json and tag == "script":
            self.found += untranslated_in_json(json.loads(self.json), self.data)
            self.json, self.is_json = "", False
        if tag in self.skipped:
            while self.skipped.pop() != tag:
                pass
        elif tag in BLOCKS:
            self.depth = 0

    def handle_data(self, data: str) -> None:
        if self.is_json:
            self.json += data
        elif not self.skipped:
            self.depth = self.see(data, "text", self.depth)

    def see(self, text: str, where: str, depth: int = 0) -> int:
        outside, depth = outside_marks(text, depth)
        if words_in(outside, self.data):
            self.found.append(f"{where}: {' '.join(text.split())}")
        return depth


def outside_marks(text: str, depth: int = 0) -> tuple[str, int]:
    """Return what stands outside the marks, and how many are open at the end."""
    kept = []
    for character in text:
        if character == OPEN:
            depth += 1
        elif character == CLOSE:
            depth = max(0, depth - 1)
            kept.append(" ")
        elif not depth:
            kept.append(character)
    return "".join(kept), depth


def words_in(text: str, data: re.Pattern[str] | None) -> list[str]:
    """Return the words of a text that a translator should have seen."""
    if data is not None:
        text = data.sub(" ", text)
    return [word for word in _WORD.findall(_NOT_WORDS.sub(" ", text)) if word not in SAME]


def untranslated_in(html: str, data: re.Pattern[str] | None) -> list[str]:
    """Return every text of a page outside the marks that is not data."""
    finder = Finder(data)
    finder.feed(html)
    return list(dict.fromkeys(finder.found))


def untranslated_in_text(text: str, data: re.Pattern[str] | None) -> list[str]:
    """Return every line of an e-mail that has words outside the marks."""
    found, depth = [], 0
    for line in text.splitlines():
        outside, depth = outside_marks(line, depth)
        if words_in(outside, data):
            found.append(line)
    return found


def untranslated_in_json(value: Any, data: re.Pattern[str] | None) -> list[str]:
    """Return every string of a script's data that reads like a text and is outside the marks."""
    if isinstance(value, dict) and "code" in value and "error" in value:
        # An error of the API: its sentence is English, what is wrong with a field is a page's.
        value = value.get("fields", {})
    return [
        f"json: {text}"
        for text in _strings(value)
        if re.search(r"[A-Z][a-z]| ", text) and words_in(outside_marks(text)[0], data)
    ]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


_LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
_CODE = re.compile(r"^(?:gw-|\.|#|\[|Content-|X-|text/|Enter|Escape|Arrow|Accept)|[<>=\[\]{}]")
_CALL = re.compile(r'\b(?:gettext|ngettext)\((?:\s*"(?:[^"\\\n]|\\.)*"\s*,?)+')


def untranslated_in_script(source: str) -> list[str]:
    """Return every string of a script that reads like a text and is not given to gettext."""
    code = re.sub(r"^\s*//.*$|\s//\s.*$", "", _CALL.sub("(", source), flags=re.MULTILINE)
    texts = ["".join(groups) for groups in _LITERAL.findall(code)]
    bare = [re.sub(r"\$\{[^}]*\}", "", text) for text in texts]
    return [
        text
        for text, rest in zip(texts, bare, strict=True)
        if re.search(r"^[A-Z][a-z]+(?: |$)|[a-z] [a-z]+\.?|[A-Za-z]{2}[.!?]$", rest)
        and not re.search(
            r"^(?:gw-|\.|#|\[|Content-|X-|text/|Enter|Escape|Arrow|Accept)|[<>=\[\]{}]", rest
        )
        and not re.fullmatch(r"(?:[a-z-]+ )*(?:gw-[\w -]+|material-[\w -]+|use strict)", rest)
    ]


def data_pattern(more: Iterable[str] = ()) -> re.Pattern[str]:
    """Return a pattern of every text that a row of the database holds, and of `more`."""
    texts = set(more)
    for model in apps.get_models():
        fields = [
            field.attname
            for field in model._meta.concrete_fields
            if isinstance(field, models.CharField | models.TextField | models.JSONField)
            and not field.choices
        ]
        if fields:
            for row in model._base_manager.values_list(*fields):
                for value in row:
                    texts.update(_strings(value))
    whole = {text for text in texts if len(text) > 2}
    # A list may show a text's first line, or its words on one line.
    whole |= {" ".join(text.split()) for text in whole} | {text.split("\n")[0] for text in whole}
    # The title of a row's page begins with a capital.
    whole |= {text[:1].upper() + text[1:] for text in whole}
    found = sorted((text for text in whole if len(text) > 2), key=len, reverse=True)
    return re.compile("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in found))

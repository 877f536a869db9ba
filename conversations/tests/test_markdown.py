"""A model's text is shown, and never runs."""

from __future__ import annotations

import re
import sys
from types import FrameType
from typing import Any

import pytest

from conversations.archive import markdown

pytestmark = pytest.mark.any_database
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox)",
    "[x](&#106;avascript:alert(1))",
    "[x]: javascript:alert(1)\n\n[x]",
    "<javascript:alert(1)>",
    "[x](/conversations/1/erase/)",
    "[x](//evil.example)",
    '[x](https://a.example "><script>alert(1)</script>")',
    "<svg onload=alert(1)>",
    "<style>body{display:none}</style>",
    "<iframe src=https://evil.example></iframe>",
    "<form action=https://evil.example><input name=password></form>",
    "```html\n<script>alert(1)</script>\n```",
    "`<script>`",
    "<a href='https://a.example' onclick='alert(1)'>x</a>",
    "![<script>alert(1)</script>](x)",
    "<base href=https://evil.example>",
    "<!-- --!><script>alert(1)</script>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_it_is_live(text: str) -> None:
    html = markdown.render(text)
    tags = re.findall(r"<[^>]*>", html)
    live = " ".join(tags).lower()
    for word in ("script", "img", "svg", "iframe", "form", "input", "style", "base", "onclick"):
        assert f"<{word}" not in live
    assert not re.search(r"\son\w+\s*=", live)
    for address in re.findall(r'href="([^"]*)"', live):
        assert address.startswith(("http://", "https://", "mailto:"))
    assert "evil.example" not in live


def test_links_lead_out_and_tell_nothing() -> None:
    html = markdown.render("[shop](https://shop.example/a?b=1&c=2)")
    assert 'href="https://shop.example/a?b=1&amp;c=2"' in html
    assert 'rel="nofollow noopener noreferrer"' in html
    assert 'target="_blank"' in html
    assert 'href="mailto:a@b.example"' in markdown.render("<a@b.example>")


def test_usual_markdown_is_rendered() -> None:
    html = markdown.render("# Hi\n\n**bold** ~~old~~\n\n1. one\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    for part in ("<h4>Hi</h4>", "<strong>bold</strong>", "<s>old</s>", "<ol>", "<td>1</td>"):
        assert part in html


def test_an_image_is_words() -> None:
    assert "[image: a cat]" in markdown.render("![a cat](https://cats.example/1.png)")


def test_very_long_text_is_shown_as_it_is() -> None:
    text = "*" * (markdown.MAX_CHARACTERS + 1) + "<b>"
    assert markdown.render(text).startswith('<pre class="gw-pre">*')
    assert "&lt;b&gt;" in markdown.render(text)


# --- Cost -------------------------------------------------------------------------------------

# Each piece is repeated. Markup that never ends, nests, or grows costs parsers most.
HOSTILE_PIECES = [
    "[", "![", "[a](", "[a]", "[[a]", "[]: a\n", '[a]: b "\n', "[a\n", "*", "*a ", "**a *b ",
    "_a_", "`", "`a", "``a`", "~~a", "<", "<a@b.c>", "<a href='", "&amp;", "\\", ">", "> a\n",
    "> - ", "(", "- ", "- a\n", "1. a\n", "-\n+\n", "|", "|a", "|a|\n", "a|b\n-|-\n", "#\n",
    "a\n=\n", "```\n", "    a\n", "\n", "\r", " ", "\t", "-", "=", "a ",
]  # fmt: skip
WIDE_TABLES = ("a|" * 300 + "\n" + "-|" * 300 + "\n" + "a\n" * 220 + "\n") * 60


def nested_lists(size: int) -> str:
    lines: list[str] = []
    length = 0
    while length < size:
        lines.append("  " * len(lines) + "- a\n")
        length += len(lines[-1])
    return "".join(lines)[:size]


def calls_of(text: str) -> int:
    """Return how many function calls rendering takes, which a busy machine does not change."""
    count = 0

    def note(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    markdown.render("warm")
    sys.setprofile(note)
    try:
        markdown.render(text)
    finally:
        sys.setprofile(None)
    return count


# About 12,000 words in 1,800 lines.
LONG_REPLY = ("Words and *more* words, with `code` in them.\n" * 20 + "- one\n- two\n\n") * 80
# Four times as many as LONG_REPLY takes.
MOST_CALLS = 2_200_000


@pytest.mark.parametrize("piece", HOSTILE_PIECES)
def test_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    half, whole = (piece * (size // len(piece)) for size in (4_000, 8_000))
    assert calls_of(whole) < 2.5 * calls_of(half) + 1_000
    assert calls_of((piece * 100_000)[:100_000]) < MOST_CALLS


@pytest.mark.parametrize(
    "text", [nested_lists(100_000), WIDE_TABLES[:100_000], WIDE_TABLES[:1_700]]
)
def test_what_would_grow_is_not_begun(text: str) -> None:
    assert calls_of(text) < MOST_CALLS


def test_a_long_reply_is_still_markdown() -> None:
    assert "<li>one</li>" in markdown.render(LONG_REPLY)
    wide = "|" + "a|" * 12 + "\n|" + "-|" * 12 + "\n" + ("|" + "b|" * 12 + "\n") * 300
    assert markdown.render(wide).count("<td>b</td>") == 12 * 300

"""Renders a model's Markdown as harmless HTML: no scripts, images, forms, or styles.

Safe twice over: the parser escapes HTML in the text, and an allowlist cleans the result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import nh3
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

# A text beyond one of these limits is shown unrendered, because parsing it would take noticeable
# time. Within the limits, the worst text found takes about 0.3 s. Most replies take a few
# milliseconds.
MAX_CHARACTERS = 100_000
# Characters that may start markup, including line ends. Each takes 10 to 40 microseconds.
MAX_MARKS = 10_000
# A row shorter than the table's head is filled up, so two characters can become hundreds of cells.
MAX_TABLE_CELLS = 20_000
_MARKS = "[]!*_`~|<>&\\#"
_LINE_END = re.compile(r"\r\n?|\n")

_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_LINK_SCHEMES = ("http://", "https://", "mailto:")


def render(text: str) -> SafeString:
    """Return the text as HTML for a page."""
    if not _is_cheap(text):
        return format_html('<pre class="gw-pre">{}</pre>', text)
    cleaned = nh3.clean(
        _parser().render(text),
        tags=_TAGS,
        attributes={"a": {"href", "target"}, "ol": {"start"}},
        attribute_filter=_keep,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
    )
    return mark_safe(cleaned)  # noqa: S308  # cleaned by the line above


def _is_cheap(text: str) -> bool:
    """Return whether the text is quick to parse as Markdown. Only counts, does not parse."""
    if len(text) > MAX_CHARACTERS:
        return False
    lines = _LINE_END.split(text)
    # No table has more columns than the widest line, nor more rows than there are lines.
    most_cells = len(lines) * max(line.count("|") for line in lines)
    marks = len(lines) + sum(map(text.count, _MARKS))
    return marks <= MAX_MARKS and most_cells <= MAX_TABLE_CELLS


def _keep(tag: str, attribute: str, value: str) -> str | None:
    """Return the attribute's value, or None to drop it. Drops relative links, to pages of ours."""
    if attribute != "href":
        return value
    return value if value.lower().startswith(_LINK_SCHEMES) else None


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image_as_words)
    parser.add_render_rule("link_open", _link_in_new_tab)
    parser.core.ruler.push("headings_below_ours", _lower_headings)
    return parser


def _image_as_words(
    renderer: RendererProtocol, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """Return an image as text. Loading it would tell a foreign server who reads this, and when."""
    return f"[image: {escape(tokens[index].content)}]"


def _link_in_new_tab(
    renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    tokens[index].attrSet("target", "_blank")
    opened: str = renderer.renderToken(tokens, index, options, env)
    return opened


def _lower_headings(state: StateCore) -> None:
    """Lower a reply's headings below those of the page around it."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"

"""The places in our sources that turn escaping off: a short list, each with its reason.

`gateway/tests/test_hostile_text.py` checks rendered pages. This test finds the places that no page
reaches today.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import unfold
from django.conf import settings
from django.template.loader import get_template

ROOT = Path(settings.BASE_DIR)
APPS = ("gateway", "dashboard", "conversations", "billing", "channels", "common")
# Calls that turn a text into markup, and why each is safe.
MARKED_SAFE = {
    "conversations/archive/markdown.py": "what nh3 has cleaned by the line above",
    "dashboard/templatetags/snippets.py": "escaped by the same expression",
}
# Where an unfold template prints a text as markup, and why no data gets there.
UNFOLD_PRINTS_SAFE = {
    "admin/includes/fieldset.html": "a fieldset's description, which stands in the code",
}
_SAFE_CALLS = {"mark_safe", "SafeString", "SafeText", "html_safe"}
_SAFE_IN_TEMPLATES = re.compile(
    r"\|\s*(safe|safeseq)\b|\{%-?\s*autoescape\s+off|\{%\s*filter\s+safe"
)
# Inline scripts, handlers, and styles, which the content security policy blocks.
_INLINE = re.compile(
    r"<script(?![^>]*\b(?:src=|type=\"application/json\"))|<style\b|\sstyle\s*=|\son[a-z]+\s*="
    r"|javascript:",
    re.IGNORECASE,
)
_MARKUP_FROM_SCRIPTS = re.compile(
    r"\.(?:innerHTML|outerHTML|srcdoc)\s*\+?=|\b(?:insertAdjacentHTML|document\.write|eval"
    r"|createContextualFragment|Function)\s*\(|setAttribute\(\s*[\"'](?:on|style)"
    r"|set(?:Timeout|Interval)\(\s*[\"'`]"
)


def python_sources() -> Iterator[Path]:
    for app in APPS:
        yield from (path for path in (ROOT / app).rglob("*.py") if "/tests/" not in str(path))


def own_templates() -> list[Path]:
    return [*(ROOT / "templates").rglob("*.html"), *ROOT.glob("*/templates/**/*.html")]


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_only_the_listed_places_make_text_into_markup() -> None:
    found, wrong = set(), []
    for path in python_sources():
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            name = name_of(call)
            if name in _SAFE_CALLS:
                found.add(str(path.relative_to(ROOT)))
            # The pattern is markup from the code. All data must be an argument.
            pattern = {"format_html": 0, "format_html_join": 1}.get(name)
            if pattern is not None and not isinstance(call.args[pattern], ast.Constant):
                wrong.append(f"{path}:{call.lineno}")
    assert found == set(MARKED_SAFE)
    assert wrong == []


def test_no_template_of_ours_switches_escaping_off() -> None:
    assert own_templates()
    assert [
        str(path) for path in own_templates() if _SAFE_IN_TEMPLATES.search(path.read_text())
    ] == []


def test_unfold_prints_as_markup_only_what_is_listed() -> None:
    """A newer unfold that does so elsewhere fails here. Override that template, or say why not."""
    folder = Path(unfold.__file__).parent / "templates"
    printed = set()
    for path in folder.rglob("*.html"):
        name = str(path.relative_to(folder))
        if name.startswith("unfold_crispy/"):
            continue  # for django-crispy-forms, which is not installed
        template: Any = get_template(name)  # ours, if one has that name
        used = Path(template.origin.name)
        if _SAFE_IN_TEMPLATES.search(used.read_text()):
            printed.add(name)
    assert printed == set(UNFOLD_PRINTS_SAFE)


def test_no_page_of_ours_has_inline_scripts_handlers_or_styles() -> None:
    found = [
        f"{path}: {match[0]}"
        for path in own_templates()
        for match in _INLINE.finditer(path.read_text())
    ]
    assert found == []


def test_no_script_of_ours_makes_markup_from_text() -> None:
    scripts = list((ROOT / "dashboard/static/dashboard").glob("*.js"))
    assert scripts
    found = [
        f"{path}: {match[0]}"
        for path in scripts
        for match in _MARKUP_FROM_SCRIPTS.finditer(path.read_text())
    ]
    assert found == []

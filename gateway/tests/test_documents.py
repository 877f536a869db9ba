"""Links, images, targets, and commands in the documents work, as does the README's first answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.conf import settings

from gateway import provisioning
from tests.support.clients import ApiClient

ROOT: Path = settings.BASE_DIR
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MOST_BYTES = 200_000


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings)
    return {word.replace(" ", "-") for word in words}


def links_of(page: Path) -> list[str]:
    text = page.read_text()
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    found += re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    return [link for link in found if not link.startswith(("http", "mailto:"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", page.read_text()))
    assert named <= TARGETS, named - TARGETS


@pytest.mark.parametrize("name", ["architecture", "glossary", "promises"])
def test_every_file_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"`([\w.]+/[\w./]*)`", (ROOT / f"docs/{name}.md").read_text()))
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_command_of_ours_is_described() -> None:
    described = (ROOT / "docs/commands.md").read_text()
    names = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")} - {"demodata"}
    assert {name for name in names if f"`{name}" not in described} == set()


def test_every_promise_stands_on_its_page_with_a_check_that_exists() -> None:
    text = (ROOT / "docs/promises.md").read_text()
    rows = dict(re.findall(r"^\| ([BRS]\d+) \|(.+)\|$", text, re.MULTILINE))
    checked = set(re.findall(r"Check\(\"(\w+)\"", (ROOT / "acceptance/__main__.py").read_text()))
    assert checked
    assert set(re.findall(r"--only (\w+)", text)) == checked
    assert {name for name in checked if f"--only {name}`" not in rows.get(name, "")} == set()
    told = re.compile(r"`(python -m|make) |`[\w/]+\.py`|\| none\.")
    assert [name for name, row in rows.items() if not told.search(row)] == []


def test_every_row_of_the_dashboard_names_tests_that_exist() -> None:
    text = (ROOT / "docs/dashboard.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.+\|(.+)\|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 31))
    for number, named in rows:
        tests = re.findall(r"`([\w/]+\.py)::(\w+)`", named)
        assert tests, number
        for path, name in tests:
            assert f"def {name}(" in (ROOT / "dashboard/tests" / path).read_text(), name


@pytest.mark.django_db
def test_the_first_message_gets_the_answer_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    sent = re.search(r"-d '(.+?)'", text)
    promised = re.search(r"```json\n(.+?)```", text, re.DOTALL)
    assert sent
    assert promised
    answer = ApiClient(provisioning.first_run()["api_key"]).post("/api/chat", json.loads(sent[1]))
    differs = {"message_id": ""}
    assert answer.json() | differs == json.loads(promised[1]) | differs


def test_the_readme_shows_three_pages_light_and_dark() -> None:
    text = (ROOT / "README.md").read_text()
    shown = set(re.findall(r'"(docs/images/[^"]+)"', text))
    wanted = {
        f"docs/images/{page}-{look}.png"
        for page in ("overview", "playground", "usage")
        for look in ("light", "dark")
    }
    assert shown == wanted
    assert all((ROOT / path).stat().st_size < MOST_BYTES for path in shown)
    assert text.count('media="(prefers-color-scheme: dark)"') == 3

"""GET /docs/: complete, consistent with the code, open to everybody, without inline code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from channels.models import LanguageModel
from conversations.chat.simulation import PROVIDER_BEHAVIOURS, REFUSALS
from dashboard.reference import facts
from dashboard.reference.facts import all_codes
from dashboard.reference.page import PARTS

pytestmark = pytest.mark.django_db

API_GUIDE = Path(settings.BASE_DIR) / "docs" / "api.md"


@pytest.fixture
def html() -> str:
    response = Client().get("/docs/")
    assert response.status_code == 200
    return response.content.decode()


def test_opens_without_a_log_in_also_without_the_slash(html: str) -> None:
    assert "<h1" in html
    response = Client().get("/docs")
    assert (response.status_code, response["Location"]) == (301, "/docs/")


def test_names_every_operation_of_the_schema(html: str) -> None:
    paths = Client().get("/api/schema").json()["paths"]
    operations = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if method in ("get", "post", "delete", "put", "patch")
    }
    assert operations == {
        (one.method, one.path) for one in (*facts.ENDPOINTS, *facts.MANAGE_ENDPOINTS)
    }
    for _, path in operations:
        assert f">{path}<" in html


def test_explains_every_error_code_there_is(html: str) -> None:
    assert {(row.code, row.status) for row in facts.ERRORS} == all_codes()
    codes = [row.code for row in facts.ERRORS]
    assert len(codes) == len(set(codes))
    for code in codes:
        assert f">{code}<" in html


def test_errors_are_those_of_the_guide() -> None:
    guide = API_GUIDE.read_text()
    rows = re.findall(r"^\| ([\d, ]+) \| (.+?) \| .+ \|$", guide, re.MULTILINE)
    told = {
        (code, status)
        for statuses, codes in rows
        for code, status in _pairs(statuses, re.findall(r"`([a-z_]+)`", codes))
    }
    in_prose = {("model_not_found", 404), ("context_length_exceeded", 400)}
    for code, status in in_prose:
        assert f"{status}" in guide
        assert f"`{code}`" in guide
    assert told | in_prose == all_codes()


def _pairs(statuses: str, codes: list[str]) -> list[tuple[str, int]]:
    """Return each code with its status. A single status applies to all codes."""
    numbers = [int(number) for number in statuses.split(",")]
    if len(numbers) == 1:
        return [(code, numbers[0]) for code in codes]
    return list(zip(codes, numbers, strict=True))


def test_statuses_under_v1_are_told_where_they_differ() -> None:
    differing = {row.code: row.v1_status for row in facts.ERRORS if row.v1_status != row.status}
    assert differing == {"credits_exhausted": 402, "provider_error": 502}


def test_explains_every_simulation(html: str) -> None:
    assert set(facts.SIMULATIONS) == {*REFUSALS, *PROVIDER_BEHAVIOURS}
    for name in facts.SIMULATIONS:
        assert f">{name}<" in html


def test_the_numbers_are_those_of_the_contract(html: str) -> None:
    text = re.sub(r"<[^>]+>", "", html)
    for words in (
        "1 to 2,000 characters",
        "1 to 255 characters",
        "at most 2,048 characters",
        "at most 512 characters",
        "at most 64 KiB",
        "at most 1 MiB",
        "24 hours after its last message",
        "At most 8 messages wait, each for at most 30 seconds",
        "After every 10 seconds of silence",
        "within 60 seconds",
        "at most 300",
        "10 times as high",
        "amgai_test_",
    ):
        assert words in text, words


def test_every_field_of_the_chat_is_in_the_table(html: str) -> None:
    for name in ("message", "session_id", "metadata", "metadata.url", "metadata.title", "stream"):
        assert f'<code class="gw-mono gw-strong">{name}</code>' in html


def test_every_part_can_be_reached(html: str) -> None:
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for anchor, _ in PARTS:
        assert f'href="#{anchor}"' in html
    for target in re.findall(r'href="#([^"]+)"', html):
        assert target in ids
    for endpoint in (*facts.ENDPOINTS, *facts.MANAGE_ENDPOINTS):
        assert endpoint.anchor in ids
    for target in re.findall(r'data-copy-from="#([^"]+)"', html):
        assert target in ids


def test_nothing_is_inline(html: str) -> None:
    response = Client().get("/docs/")
    policy = response["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))


def test_shows_the_address_it_is_read_at(html: str) -> None:
    assert "http://testserver/api/chat" in html
    model = LanguageModel.objects.filter(is_enabled=True)[0]
    assert model.model_id in html


def test_needs_one_query(django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(1):
        Client().get("/docs/")


def test_opens_where_no_model_is_enabled() -> None:
    LanguageModel.objects.update(is_enabled=False)
    assert Client().get("/docs/").status_code == 200

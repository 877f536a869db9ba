"""The official npm client against a running server; left out unless asked for by `-m sdk`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from channels.errors import ProviderError
from channels.tests.factories import make_site
from conftest import FakeProvider, reply
from conversations.tests.test_openai import CALL, assert_books_agree

SDK = Path(__file__).parent / "sdk"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sdk]


@pytest.fixture(scope="module")
def workspace() -> Path:
    """A directory with the locked client in it; downloaded once for each lock file."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    lock = (SDK / "package-lock.json").read_bytes()
    place = settings.DATA_DIR / f"sdk-{hashlib.sha256(lock).hexdigest()[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "check.mjs"):
        shutil.copy(SDK / name, place)
    if not (place / "node_modules").exists():
        run(place, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return place


def run(place: Path, *command: str, **environment: str) -> str:
    result = subprocess.run(
        command,
        cwd=place,
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_official_client_finds_all_it_expects(
    workspace: Path, provider: FakeProvider, live_server: Any
) -> None:
    site = make_site()
    tools = reply("", tool_calls=(CALL,), finish_reason="tool_calls")
    provider.script += [
        reply("Hello to you", 7, 4),
        reply("One two three"),
        tools,
        tools,
        reply("Half BREAK"),
        ProviderError("timeout"),
        ProviderError("timeout"),
        reply("at last"),
    ]
    output = run(
        workspace,
        "node",
        "check.mjs",
        BASE_URL=f"{live_server.url}/v1",
        LIVE_KEY=site.api_key,
        TEST_KEY=site.test_key,
    )
    assert output == "all is well\n"
    assert provider.script == []
    assert len(provider.requests) == 8
    assert_books_agree()

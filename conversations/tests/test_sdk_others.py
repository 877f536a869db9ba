"""LangChain and Vercel's AI SDK against a running server. Runs only with `-m sdk`."""

from __future__ import annotations

from typing import Any

import pytest

from channels.errors import ProviderError
from channels.tests.factories import make_site
from conversations.tests.sdk_workspaces import SDK, npm_workspace, python_workspace, run
from conversations.tests.test_openai import CALL, assert_books_agree
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sdk]

TOOLS = reply("", tool_calls=(CALL,), finish_reason="tool_calls")


def surroundings(live_server: Any) -> dict[str, str]:
    site = make_site()
    keys = {"LIVE_KEY": site.api_key, "TEST_KEY": site.test_key}
    return {"BASE_URL": f"{live_server.url}/v1", **keys}


def test_langchain_finds_all_it_expects(provider: FakeProvider, live_server: Any) -> None:
    place = python_workspace()
    provider.script += [reply("Hello to you", 7, 4), reply("One two three"), TOOLS]
    provider.script += [reply("Half BREAK")]
    provider.script += [ProviderError("timeout"), ProviderError("timeout"), reply("at last")]
    script = str(SDK / "langchain_check.py")
    output = run(place, "venv/bin/python", script, **surroundings(live_server))
    assert output == "all is well\n"
    assert provider.script == []
    assert_books_agree()


def test_vercels_sdk_finds_all_it_expects(provider: FakeProvider, live_server: Any) -> None:
    place = npm_workspace()
    provider.script += [reply("Hello to you", 7, 4), reply("One two three"), TOOLS]
    provider.script += [reply("Half BREAK"), ProviderError("timeout"), reply("at last")]
    output = run(place, "node", "vercel.mjs", **surroundings(live_server))
    assert output == "all is well\n"
    assert provider.script == []
    assert_books_agree()

"""The official npm client against a running server. Runs only with `-m sdk`."""

from __future__ import annotations

from typing import Any

import pytest

from channels.errors import ProviderError
from channels.tests.factories import make_site
from conversations.tests.sdk_workspaces import npm_workspace, run
from conversations.tests.test_openai import CALL, assert_books_agree
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sdk]


def test_the_official_client_finds_all_it_expects(provider: FakeProvider, live_server: Any) -> None:
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
        npm_workspace(),
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

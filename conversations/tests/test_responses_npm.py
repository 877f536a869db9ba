"""/v1/responses with OpenAI's npm client and Vercel's default. Runs only with `-m sdk`."""

from __future__ import annotations

from typing import Any

import pytest

from conversations.tests.sdk_workspaces import npm_workspace, run
from conversations.tests.test_openai import CALL, assert_books_agree
from conversations.tests.test_sdk_others import surroundings
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sdk]

CITY = reply('{"city": "Lima"}')


def test_the_official_client_finds_all_it_expects(provider: FakeProvider, live_server: Any) -> None:
    mixed = reply("Wait", tool_calls=(CALL,), reasoning="Hm.")
    provider.script += [reply("Hello to you", 7, 4), reply("One two three", reasoning="Hm.")]
    provider.script += [mixed, reply("Sunny"), mixed, reply("Sunny"), CITY, reply("Half BREAK")]
    output = run(npm_workspace(), "node", "responses.mjs", **surroundings(live_server))
    assert output == "all is well\n"
    assert provider.script == []
    assert provider.prompts[3][1] == {
        "role": "assistant",
        "content": "Wait",
        "reasoning": "Hm.",
        "tool_calls": [CALL],
    }
    assert_books_agree()


def test_vercels_default_finds_all_it_expects(provider: FakeProvider, live_server: Any) -> None:
    call = reply("", tool_calls=(CALL,), finish_reason="tool_calls")
    another = CALL | {"id": "call_2"}
    calls = reply("", tool_calls=(another, CALL | {"id": "call_3"}), finish_reason="tool_calls")
    provider.script += [reply("Hello to you", 7, 4), reply("One two three")]
    provider.script += [call, calls, reply("Sunny")] * 2
    provider.script += [CITY, reply("One"), reply("Two"), reply("Three")]
    mixed = reply("Wait", tool_calls=(CALL,), reasoning_content="Hm.")
    provider.script += [mixed, reply("Sunny again"), reply("Half BREAK")]
    output = run(npm_workspace(), "node", "vercel_openai.mjs", **surroundings(live_server))
    assert output == "all is well\n"
    assert provider.script == []
    # The third step: two calls side by side, followed by their outputs.
    roles = [message["role"] for message in provider.prompts[4]]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "tool"]
    # The third turn has all text before it.
    turns = [message["content"] for message in provider.prompts[11]]
    assert [text.strip() for text in turns] == ["Turn 0", "One", "Turn 1", "Two", "Turn 2"]
    assert provider.prompts[13][1]["tool_calls"] == [CALL]
    assert_books_agree()

"""The built-in provider: deterministic, clearly a demo, and not influenced by the message."""

from __future__ import annotations

import pytest

from channels.providers.base import ChatMessage, ChatRequest, Completion, Patience, Usage
from channels.providers.demo import DemoProvider
from channels.providers.tokens import estimate_tokens


def ask(*said: str, is_test: bool = False) -> Completion:
    roles = ("user", "assistant")
    messages: list[ChatMessage] = [
        {"role": roles[number % 2], "content": text} for number, text in enumerate(said)
    ]
    return DemoProvider(is_test=is_test).complete(
        ChatRequest(messages, 300), patience=Patience(0, 0, 0)
    )


def test_repeats_what_was_said_and_says_that_it_is_a_demo() -> None:
    live, test = ask("Anybody there?"), ask("Anybody there?", is_test=True)
    for completion in (live, test):
        assert "demo reply" in completion.text
        assert "“Anybody there?” (message 1 of" in completion.text
        assert (completion.finish_reason, completion.response_model) == ("stop", "demo")
    assert "PROVIDER" not in live.text  # only the operator needs to know about it
    assert "test key" in test.text


def test_is_deterministic_and_counts_turns() -> None:
    assert ask("a", "b", "c") == ask("a", "b", "c")
    assert "message 2 of" in ask("a", "b", "c").text


@pytest.mark.parametrize("text", ["{}", "{message.__class__}", "{0}", "%s", "}{", "{turn}"])
def test_braces_mean_nothing(text: str) -> None:
    assert f"“{text}”" in ask(text).text


def test_quotes_at_most_200_characters() -> None:
    assert f"“{'x' * 200}”" in ask("x" * 200).text
    assert f"“{'x' * 200}…”" in ask("x" * 2000).text


def test_usage_is_four_characters_a_token() -> None:
    completion = ask("abcd", "abcde", "a")
    assert completion.usage == Usage(1 + 2 + 1, estimate_tokens(completion.text))

"""LangChain's ChatOpenAI against this gateway, as scripted by test_sdk_others.py.

Runs in its own environment, which does not contain the gateway's code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import openai
from langchain_openai import ChatOpenAI

MODEL = "llama-3.3-70b-versatile"
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def model(key: str, *, simulate: str = "", **more: Any) -> ChatOpenAI:
    options = {"model": MODEL, "base_url": os.environ["BASE_URL"], "api_key": key} | more
    return ChatOpenAI(**options, default_headers={"X-Simulate": simulate} if simulate else None)


def check_answers(live: ChatOpenAI) -> None:
    """Check plain and streamed answers with usage, and tool calls."""
    plain = live.invoke("Hello!")
    assert plain.content == "Hello to you"
    assert counts(plain) == (7, 4, 11)
    assert plain.response_metadata["model_name"] == MODEL
    assert plain.response_metadata["finish_reason"] == "stop"
    pieces = list(live.stream("Hello!"))
    assert len([piece for piece in pieces if piece.content]) == 3
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.content.strip() == "One two three"
    assert counts(whole) == (10, 5, 15)
    (call,) = live.bind_tools([WEATHER]).invoke("Hello!").tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Lima"})


def counts(message: Any) -> tuple[int, ...]:
    usage = message.usage_metadata
    return usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]


def check_errors(live_key: str, test_key: str) -> None:
    """Check that errors have the classes of OpenAI's client, which LangChain passes on."""
    expect(model("wrong"), openai.AuthenticationError, "invalid_api_key")
    expect(model(live_key, model="gpt-4o"), openai.NotFoundError, "model_not_found")
    simulated = {
        "site_disabled": openai.PermissionDeniedError,
        "credits_exhausted": openai.APIStatusError,
        "daily_quota_reached": openai.RateLimitError,
        "provider_error": openai.InternalServerError,
    }
    for code, kind in simulated.items():
        expect(model(test_key, simulate=code, max_retries=0), kind, code)


def expect(llm: ChatOpenAI, kind: type[openai.APIError], code: str) -> None:
    error = failure(lambda: llm.invoke("Hello!"))
    assert (error.code, isinstance(error, kind)) == (code, True), error


def failure(call: Callable[[], Any]) -> openai.APIError:
    try:
        call()
    except openai.APIError as error:
        return error
    raise AssertionError("this was to fail")


def check_break(live: ChatOpenAI) -> None:
    """Check that a break in mid-stream raises in the iteration, after the pieces before it."""
    pieces: list[Any] = []
    error = failure(lambda: pieces.extend(piece.content for piece in live.stream("Hello!")))
    assert error.code == "provider_error", error
    assert "".join(pieces).strip() == "Half"


def main() -> None:
    live = model(os.environ["LIVE_KEY"], stream_usage=True)
    check_answers(live)
    check_break(live)
    check_errors(os.environ["LIVE_KEY"], os.environ["TEST_KEY"])
    # A request that failed twice succeeds at the third try.
    assert live.invoke("Hello!").content == "at last"
    print("all is well")


if __name__ == "__main__":
    main()

"""A real language model on this machine: `make local-llm`, then `make test ARGS="-m local_llm"`."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from channels.models import LanguageModel
from channels.tests.factories import make_site
from conversations.tests.test_streaming import parse
from tests.support.clients import ApiClient

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.local_llm]


@pytest.fixture
def api(settings: Any) -> ApiClient:
    settings.PROVIDER_BASE_URL = f"http://127.0.0.1:{os.environ.get('LLM_PORT', '8081')}/v1"
    # Such a small model sometimes never stops.
    LanguageModel.objects.update(max_output_tokens=64)
    return ApiClient(make_site().api_key)


def test_a_real_model_answers_and_receives_the_conversation(api: ApiClient) -> None:
    first = api.chat("What is the capital of France?")
    assert first.status_code == 200, first.content
    second = api.chat("And how many people live there?")
    assert second.status_code == 200, second.content
    usage = [response.json()["usage"] for response in (first, second)]
    assert all(counts["completion_tokens"] > 0 for counts in usage)
    assert "estimated" not in usage[0]
    # The second prompt also contains the first exchange.
    assert usage[1]["prompt_tokens"] > usage[0]["total_tokens"]
    assert first.json()["credits"]["charged"] == "1.000000"
    assert [m["role"] for m in api.history()] == ["user", "assistant"] * 2


def test_a_real_model_streams(api: ApiClient) -> None:
    events = parse(api.chat("Say hello.", stream=True).getvalue())
    pieces = [data["text"] for name, data in events if name == "delta"]
    name, done = events[-1]
    assert name == "done"
    assert len(pieces) > 1
    assert "".join(pieces) == done["reply"]
    assert done["usage"]["completion_tokens"] > 0
    assert "estimated" not in done["usage"]


def test_a_real_model_answers_as_openai_does(api: ApiClient) -> None:
    body = {
        "model": "llama-3.3-70b-versatile",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 20,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    lines = api.post("/v1/chat/completions", body).getvalue().decode().split("\n\n")
    chunks = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert chunks.pop() == "[DONE]"
    parsed = [json.loads(chunk) for chunk in chunks]
    assert parsed[-1]["usage"]["completion_tokens"] > 0
    assert {chunk["model"] for chunk in parsed} == {"llama-3.3-70b-versatile"}
    plain = api.post("/v1/chat/completions", body | {"stream": False, "stream_options": None})
    assert plain.status_code == 200, plain.content
    assert plain.json()["choices"][0]["message"]["content"]

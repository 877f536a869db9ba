"""A real language model on this machine: `make local-llm`, then `make test ARGS="-m local_llm"`."""

from __future__ import annotations

import os
from typing import Any

import pytest

from channels.tests.factories import Site
from conftest import ApiClient

pytestmark = [pytest.mark.django_db, pytest.mark.local_llm]


def test_a_real_model_answers_and_receives_the_conversation(site: Site, settings: Any) -> None:
    settings.PROVIDER_BASE_URL = f"http://127.0.0.1:{os.environ.get('LLM_PORT', '8081')}/v1"
    api = ApiClient(site.api_key)
    first = api.chat("What is the capital of France?")
    assert first.status_code == 200, first.content
    second = api.chat("And how many people live there?")
    assert second.status_code == 200, second.content
    usage = [response.json()["usage"] for response in (first, second)]
    assert all(counts["completion_tokens"] > 0 for counts in usage)
    assert "estimated" not in usage[0]
    # The second prompt holds the first exchange as well.
    assert usage[1]["prompt_tokens"] > usage[0]["total_tokens"]
    assert first.json()["credits"]["charged"] == "1.000000"
    assert [m["role"] for m in api.history()] == ["user", "assistant"] * 2

"""Parameters and members of /v1/chat/completions: passed on unchanged, or refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from billing.models import Hold
from channels.models import Provider, Route
from channels.tests.factories import Site, set_prices
from conversations.api.parameters import PARAMETERS, passes
from conversations.tests.test_openai import CALL, HELLO, MODEL, WEATHER, assert_error, complete
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider
from tests.support.provider import chat_answer
from tests.support.stub_server import StubServer, answer

pytestmark = pytest.mark.django_db

FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
# Valid values of every parameter that passes. The last test of this section compares the names.
RIGHT: dict[str, list[Any]] = {
    "temperature": [0, 0.7, 2],
    "top_p": [1],
    "presence_penalty": [-2],
    "frequency_penalty": [0.0],
    "stop": ["\n", ["a", "b", "c", "d"]],
    "seed": [-7],
    "response_format": [FORMAT, {"type": "json_object"}],
    "tools": [[WEATHER], [{"function": {"name": "f"}, "strict": True}]],
    "tool_choice": [
        "auto",
        "any",
        {"type": "function", "function": {"name": "weather"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
    ],
    "parallel_tool_calls": [False],
    "reasoning_effort": ["minimal"],
    "verbosity": ["low"],
    "logprobs": [True],
    "top_logprobs": [0, 20],
    "logit_bias": [{}, {"50256": -100}],
    "user": ["visitor-7"],
    "safety_identifier": ["a"],
    "prompt_cache_key": ["a"],
    "prompt_cache_retention": ["24h"],
    "metadata": [{"order": "7"}],
    "n": [1],
    "store": [False],
    "service_tier": ["auto", "default"],
    "modalities": [["text"]],
    "top_k": [-1, 40],
    "min_p": [0.05],
    "top_a": [0.1],
    "typical_p": [1],
    "repetition_penalty": [1.1],
    "min_tokens": [5],
    "random_seed": [7],
    "enable_thinking": [False],
    "thinking": [{"type": "enabled", "budget_tokens": 100}],
    "thinking_budget": [0],
    "reasoning": [{"effort": "high"}],
    "include_reasoning": [True],
    "reasoning_format": ["parsed"],
    "reasoning_split": [True],
    "chat_template_kwargs": [{"enable_thinking": False}, {"thinking": True}],
    "guided_json": [{"type": "object"}, "{}"],
    "guided_choice": [["yes", "no"]],
    "guided_regex": ["a+"],
    "structured_outputs": [{"choice": ["a"]}],
}
WRONG: list[tuple[str, Any]] = [
    ("n", 2),
    ("n", True),
    ("store", True),
    ("service_tier", "priority"),
    ("service_tier", "flex"),
    ("modalities", ["text", "audio"]),
    ("tools", [{"type": "web_search"}]),
    ("tools", [{"type": "mcp", "function": {"name": "f"}}]),
    ("tools", [WEATHER | {"google_search": {}}]),
    ("tool_choice", {"type": "web_search", "x": 1}),
    ("logprobs", 1),
    ("top_logprobs", 21),
    ("logit_bias", {"1": "a"}),
    ("user", {"id": 1}),
    ("metadata", []),
    ("top_k", 1.5),
    ("top_k", 2**64),
    ("min_p", -1),
    ("thinking", "on"),
    ("reasoning", True),
    ("chat_template_kwargs", {"chat_template": "x"}),
    ("chat_template_kwargs", {"enable_thinking": "no"}),
    ("guided_choice", [1]),
    ("guided_json", 1),
    ("user", "a\x00b"),
]
ITS_OWN = {"model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options"}


@pytest.mark.parametrize("name", RIGHT)
def test_known_parameters_reach_the_provider_unchanged(
    api: ApiClient, provider: FakeProvider, name: str
) -> None:
    for value in RIGHT[name]:
        assert complete(api, **{name: value}).status_code == 200, value
        assert provider.requests[-1].options == {name: value}


def test_every_parameter_of_the_table_that_passes_is_tried_here() -> None:
    assert {name for name in PARAMETERS if passes(name)} == set(RIGHT)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_values_are_400_by_name(
    api: ApiClient, provider: FakeProvider, name: str, value: Any
) -> None:
    message = assert_error(complete(api, **{name: value}), 400, "invalid_request", name)
    assert message.startswith(f"'{name}': Must")
    assert provider.requests == []


@pytest.mark.parametrize(
    "name", [name for name in PARAMETERS if not passes(name) and name not in ITS_OWN]
)
def test_refused_parameters_say_why(api: ApiClient, provider: FakeProvider, name: str) -> None:
    message = assert_error(complete(api, **{name: ["x"]}), 400, "invalid_request", name)
    assert message.startswith(f"'{name}': Refused: ")
    assert provider.requests == []
    assert complete(api, **{name: None}).status_code == 200


def test_empty_lists_and_nulls_are_absent(api: ApiClient, provider: FakeProvider) -> None:
    nothing: dict[str, Any] = {
        "tools": [],
        "stop": [],
        "functions": [],
        "tool_choice": None,
        "mirostat": None,
    }
    assert complete(api, **nothing).status_code == 200
    assert provider.requests[0].options == {}


@pytest.mark.parametrize("name", ["mirostat", "base_url", "x" * 200, "\udc00", "a\x00"])
def test_unknown_names_are_400_by_name(api: ApiClient, provider: FakeProvider, name: str) -> None:
    shown = name.replace("\udc00", "?").replace("\x00", "?")[:100]
    body = orjson.dumps({"model": MODEL, "messages": HELLO, "NAME": 1}).decode()
    sent = name.replace("\udc00", "\\udc00").replace("\x00", "\\u0000")
    response = api.post("/v1/chat/completions", body.replace("NAME", sent))
    message = assert_error(response, 400, "invalid_request", shown)
    assert message.endswith("ask the gateway's operator to allow it for the routes of this model.")
    assert provider.requests == []


def test_the_guide_and_the_schema_tell_of_the_whole_table() -> None:
    guide = (Path(settings.BASE_DIR) / "docs" / "api.md").read_text()
    table = guide.partition("**Parameters**")[2].partition("**Messages**")[0]
    told = {
        name: words.startswith("refused")
        for names, words in re.findall(r"^\| (`.+`) \| (.+) \|$", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert told == {name: not passes(name) and name not in ITS_OWN for name in PARAMETERS}
    schema = Client().get("/api/schema").json()["components"]["schemas"]["CompletionRequestSchema"]
    assert set(schema["properties"]) == {
        name for name, is_refused in told.items() if not is_refused
    }


# --- Names that staff allow -----------------------------------------------------------------------


@pytest.fixture
def first_route(site: Site, monkeypatch: pytest.MonkeyPatch) -> Route:
    """Create two routes to the channel's model that allow nothing. Returns the first."""
    monkeypatch.setattr(settings, "PROVIDER_ALLOW_PRIVATE_ADDRESSES", True)
    Route.objects.filter(model=site.channel.model).delete()
    for name in ("one", "two"):
        provider = Provider.objects.create(name=name, base_url="https://unset.example/v1")
        Route.objects.create(
            model=site.channel.model, provider=provider, provider_model="m", position=name == "two"
        )
    return Route.objects.get(provider__name="one")


def allow(name: str, names: str) -> None:
    Route.objects.filter(provider__name=name).update(allowed_parameters=names)


def test_a_name_that_staff_allow_goes_only_to_routes_that_allow_it(
    site: Site, api: ApiClient, first_route: Route
) -> None:
    assert_error(complete(api, mirostat=2), 400, "invalid_request", "mirostat")
    allow("two", "repeat_last_n mirostat")
    with (
        StubServer(answer(orjson.dumps(chat_answer()))) as one,
        StubServer(answer(orjson.dumps(chat_answer()))) as two,
    ):
        Provider.objects.filter(name="one").update(base_url=one.url("/v1"))
        Provider.objects.filter(name="two").update(base_url=two.url("/v1"))
        assert complete(api, mirostat=2, repeat_last_n=[1]).status_code == 200
        assert complete(api).status_code == 200
    assert [len(one.requests), len(two.requests)] == [1, 1]
    sent = orjson.loads(two.requests[0].body)
    assert (sent["mirostat"], sent["repeat_last_n"]) == (2, [1])


def test_names_that_no_one_route_allows_together_are_400(
    site: Site, api: ApiClient, first_route: Route
) -> None:
    allow("one", "mirostat")
    allow("two", "repeat_last_n")
    both = complete(api, mirostat=2, repeat_last_n=1)
    assert_error(both, 400, "invalid_request", "repeat_last_n")
    assert not Hold.objects.exists()


def test_the_provider_of_the_environment_allows_what_its_setting_names(
    api: ApiClient, first_route: Route, settings: Any
) -> None:
    settings.PROVIDER_ALLOWED_PARAMETERS = ["mirostat", "models"]
    assert_error(complete(api, mirostat=2), 400, "invalid_request", "mirostat")
    with StubServer(answer(orjson.dumps(chat_answer()))) as server:
        settings.PROVIDER_BASE_URL = server.url("/v1")
        assert complete(api, mirostat=2).status_code == 200
        assert_error(complete(api, tfs_z=2), 400, "invalid_request", "tfs_z")
        assert_error(complete(api, models=["a"]), 400, "invalid_request", "models")
    (sent,) = server.requests
    assert orjson.loads(sent.body)["mirostat"] == 2


def test_a_test_key_is_told_what_a_live_one_is(site: Site, first_route: Route) -> None:
    api = ApiClient(site.test_key)
    assert_error(complete(api, mirostat=2), 400, "invalid_request", "mirostat")
    allow("one", "mirostat")
    assert complete(api, mirostat=2).status_code == 200


def test_a_model_without_a_route_takes_no_unknown_name(site: Site, first_route: Route) -> None:
    Route.objects.all().delete()
    api = ApiClient(site.api_key)
    assert_error(complete(api, mirostat=2), 400, "invalid_request", "mirostat")


def test_staff_cannot_allow_what_the_table_refuses(
    site: Site, api: ApiClient, first_route: Route
) -> None:
    allow("one", "models n")
    assert_error(complete(api, models=["a"]), 400, "invalid_request", "models")
    assert_error(complete(api, n=2), 400, "invalid_request", "n")


@pytest.mark.parametrize(
    ("names", "status"),
    [("", 302), ("mirostat", 302), ("mirostat _x9", 302), ("a,b", 200), ("a  b", 200), ("9", 200)],
)
def test_staff_type_names_with_spaces_between_them(
    admin_client: Client, first_route: Route, names: str, status: int
) -> None:
    form = {
        "model": first_route.model_id,
        "provider": first_route.provider_id,
        "provider_model": "m",
        "position": 0,
        "is_enabled": "on",
        "allowed_parameters": names,
    }
    page = reverse("admin:channels_route_change", args=[first_route.pk])
    assert admin_client.post(page, form).status_code == status
    first_route.refresh_from_db()
    assert first_route.allowed_parameters == (names if status == 302 else "")


# --- Members of messages --------------------------------------------------------------------------


def test_what_a_model_said_goes_back_as_it_came(api: ApiClient, provider: FakeProvider) -> None:
    call = CALL | {"extra_content": {"google": {"thought_signature": "abc"}}, "index": 0}
    messages: list[dict[str, Any]] = [
        {
            "role": "assistant",
            "content": None,
            "refusal": "I cannot.",
            "reasoning_content": "Hm",
            "reasoning": "Hm",
            "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}],
            "annotations": [],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny", "name": "weather"},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {}}]},
        {"role": "assistant", "content": "Sure", "prefix": True},
    ]
    assert complete(api, messages).status_code == 200
    assert provider.prompts[0] == messages


def test_empty_members_of_a_message_are_absent(api: ApiClient, provider: FakeProvider) -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "Hi",
        "tool_calls": [],
        "refusal": None,
    }
    message |= {"audio": None, "function_call": None, "name": None}
    assert complete(api, [message, *HELLO]).status_code == 200
    assert provider.prompts[0] == [{"role": "assistant", "content": "Hi"}, *HELLO]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": "x", "id": "m1"}, "id"),
        ({"role": "user", "content": "x", "reasoning_content": "x"}, "reasoning_content"),
        ({"role": "assistant", "content": "x", "reasoning": 1}, "reasoning"),
        ({"role": "assistant", "content": "x", "reasoning_details": "x"}, "reasoning_details"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "audio"),
        ({"role": "assistant", "function_call": {}, "content": "x"}, "function_call"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "content"),
        ({"role": "user", "content": None, "refusal": "x"}, "refusal"),
    ],
)
def test_members_nobody_knows_are_400_by_name(
    api: ApiClient, provider: FakeProvider, message: dict[str, Any], param: str
) -> None:
    response = complete(api, [*HELLO, message])
    assert_error(response, 400, "invalid_request", f"messages[1].{param}")
    assert provider.requests == []


@pytest.mark.parametrize(
    "more",
    [
        {"response_format": FORMAT | {"x": "y" * 1000}},
        {"guided_json": "y" * 1000},
        {"metadata": {"x": "y" * 1000}},
        {"messages": [HELLO[0], {"role": "assistant", "content": "", "reasoning": "y" * 1000}]},
        {"messages": [HELLO[0], {"role": "assistant", "content": "", "refusal": "y" * 1000}]},
    ],
)
def test_the_hold_covers_all_that_a_model_may_read(
    api: ApiClient, provider: FakeProvider, more: dict[str, Any]
) -> None:
    set_prices(price_per_1k_input_tokens_microcredits=1_000)
    assert complete(api, **more).status_code == 200
    assert Hold.objects.get().amount_microcredits > 1_000_000 + 1_000


@pytest.mark.parametrize(
    ("more", "room"),
    [
        ({"logprobs": False}, 8192),
        ({"logprobs": True}, 2621),
        ({"logprobs": True, "top_logprobs": 20}, 238),
        ({"logprobs": True, "max_tokens": 50}, 50),
    ],
)
def test_an_answer_with_log_probabilities_is_as_short_as_can_be_read(
    api: ApiClient, provider: FakeProvider, more: dict[str, Any], room: int
) -> None:
    assert complete(api, **more).status_code == 200
    assert provider.requests[0].max_output_tokens == room


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"include_obfuscation": False}, None),
        ({"include_obfuscation": True}, "stream_options.include_obfuscation"),
        ({"continuous_usage_stats": True}, "stream_options.continuous_usage_stats"),
    ],
)
def test_stream_options_are_kept_or_refused(
    api: ApiClient, provider: FakeProvider, value: dict[str, Any], param: str | None
) -> None:
    response = complete(api, stream_options=value)
    if param:
        assert_error(response, 400, "invalid_request", param)
    else:
        assert response.status_code == 200

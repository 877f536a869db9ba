"""The gateway adapts its requests to a provider that refuses their form, and remembers how."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import orjson
import pytest

from channels import adaptation
from channels.errors import ProviderError
from channels.models import LanguageModel, Provider, Route, RouteHealth, RouteTraits
from channels.providers import openai_compatible
from channels.providers.base import ChatRequest, Completion, Patience
from channels.providers.lessons import learn
from channels.providers.openai_compatible import chat_url
from channels.providers.traits import (
    NO_SYSTEM_ROLE,
    ONE_SYSTEM_MESSAGE,
    PLAIN,
    Traits,
    adapted,
    arranged,
)
from channels.routes import default_client_of
from channels.tests.factories import Site
from conversations.tests.test_openai import MODEL, complete
from tests.support.clients import ApiClient
from tests.support.provider import HttpProvider

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

Rule = Callable[[dict[str, Any]], str]
HELLO = {"choices": [{"message": {"content": "Hello!"}, "finish_reason": "stop"}]}


def unsupported_limit(body: dict[str, Any]) -> str:
    if "max_tokens" not in body:
        return ""
    return (
        "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead."
    )


def test_the_newer_name_of_the_limit_is_learned_once(
    api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(400, unsupported_limit)
    assert api.chat().status_code == 200
    assert ["max_completion_tokens" in body for body in http_provider.bodies] == [False, True]
    assert api.chat().status_code == 200
    assert len(http_provider.bodies) == 3
    assert RouteTraits.objects.get().limit_name == "max_completion_tokens"
    assert not RouteHealth.objects.exists()


def test_the_older_name_of_the_limit_is_learned_too(
    api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(
        422,
        lambda body: (
            "max_completion_tokens: Extra inputs are not permitted"
            if "max_completion_tokens" in body
            else ""
        ),
    )
    assert complete(api, max_completion_tokens=5).status_code == 200
    assert http_provider.bodies[-1]["max_tokens"] == 5


@pytest.mark.django_db(transaction=True)
def test_a_stream_without_its_options_is_estimated(
    api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(422, lambda body: "stream_options" if "stream_options" in body else "")
    response = api.chat(stream=True)
    assert b'"estimated":true' in response.getvalue()
    assert RouteTraits.objects.get().has_stream_options is False
    assert api.chat(stream=True).status_code == 200
    assert len(http_provider.bodies) == 3


def one_system_message(body: dict[str, Any]) -> str:
    roles = [message["role"] for message in body["messages"]]
    return "System message must be at the beginning." if "system" in roles[1:] else ""


def no_system_role(body: dict[str, Any]) -> str:
    roles = [message["role"] for message in body["messages"]]
    return "System role not supported" if "system" in roles else ""


MINE: dict[str, Any] = {"role": "system", "content": "Speak French."}
USER: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}


def test_system_messages_are_joined_below_the_channels(
    http_provider: HttpProvider, site: Site
) -> None:
    site.channel.system_prompt = "You are a shop's assistant."
    site.channel.save()
    http_provider.refuse(400, one_system_message)
    assert complete(ApiClient(site.api_key), messages=[MINE, USER]).status_code == 200
    assert http_provider.bodies[-1]["messages"] == [
        {"role": "system", "content": "You are a shop's assistant.\n\nSpeak French."},
        USER,
    ]
    http_provider.refuse(400, no_system_role)
    assert complete(ApiClient(site.api_key), messages=[MINE, USER]).status_code == 200
    first = {"type": "text", "text": "You are a shop's assistant.\n\nSpeak French."}
    assert http_provider.bodies[-1]["messages"] == [
        {"role": "user", "content": [first, *USER["content"]]}
    ]
    assert RouteTraits.objects.get().system_messages == NO_SYSTEM_ROLE


def test_text_parts_are_joined_for_a_provider_that_takes_strings(
    api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(
        422,
        lambda body: (
            "messages[0]: invalid type: sequence, expected a string"
            if isinstance(body["messages"][-1]["content"], list)
            else ""
        ),
    )
    assert complete(api, messages=[USER]).status_code == 200
    assert http_provider.bodies[-1]["messages"][-1] == {"role": "user", "content": "Hello"}


def small_window(body: dict[str, Any]) -> str:
    if body["max_tokens"] <= 4_076:
        return ""
    return (
        f"'max_tokens' is too large: {body['max_tokens']}. This model's maximum context length is "
        "4096 tokens and your request has 20 input tokens."
    )


def test_a_small_window_is_learned_and_kept_to(api: ApiClient, http_provider: HttpProvider) -> None:
    http_provider.refuse(400, small_window)
    assert api.chat().status_code == 200
    assert api.chat().status_code == 200
    assert len(http_provider.bodies) == 3
    assert RouteTraits.objects.get().context_window_tokens == 4096
    assert all(body["max_tokens"] <= 4096 for body in http_provider.bodies[1:])


def test_the_longest_answer_is_learned(api: ApiClient, http_provider: HttpProvider) -> None:
    http_provider.refuse(
        400,
        lambda body: (
            "`max_tokens` must be less than or equal to `1,024`"
            if body["max_tokens"] > 1024
            else ""
        ),
    )
    assert api.chat().status_code == 200
    assert http_provider.bodies[-1]["max_tokens"] == 1024


def test_what_one_long_prompt_leaves_room_for_is_not_learned() -> None:
    words = "max_tokens must be at most 1096, as your prompt has 3000 tokens"
    error = ProviderError("request_too_large", status=400, words=words)
    assert learn(error, ChatRequest([], 4_000), PLAIN) is None


RULES: dict[str, tuple[Rule, str]] = {
    "limit": (unsupported_limit, "limit_name"),
    "stream_options": (
        lambda body: "stream_options" if "stream_options" in body else "",
        "has_stream_options",
    ),
    "one system": (one_system_message, "system_messages"),
    "no system": (no_system_role, "system_messages"),
    "text": (
        lambda body: (
            "invalid type: sequence, expected a string"
            if isinstance(body["messages"][-1]["content"], list)
            else ""
        ),
        "has_text_content",
    ),
    "temperature": (
        lambda body: "Unsupported: temperature" if "temperature" in body else "",
        "ignores_temperature",
    ),
    "stop": (lambda body: "Unsupported: stop" if "stop" in body else "", "ignores_stop"),
    "longest": (
        lambda body: (
            f"{name} must be less than or equal to 2000"
            if body.get(name := _limit_of(body), 0) > 2000
            else ""
        ),
        "max_output_tokens",
    ),
    "window": (
        lambda body: (
            "This model's maximum context length is 4096 tokens."
            if body.get(_limit_of(body), 0) > 4000
            else ""
        ),
        "context_window_tokens",
    ),
}


# Without the pair of a short answer and a small window: the smaller makes the other unnecessary.
PAIRS = [pair for pair in itertools.permutations(RULES, 2) if set(pair) != {"longest", "window"}]


def _limit_of(body: dict[str, Any]) -> str:
    return "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"


def count_calls(http_provider: HttpProvider, site: Site, names: Iterable[str]) -> int:
    """Let a provider refuse all of these. Returns how many calls the gateway makes for one chat."""
    site.channel.system_prompt = "Be kind."
    site.channel.temperature, site.channel.stop_words = Decimal("0.50"), ["END"]
    site.channel.save()
    for name in names:
        http_provider.refuse(400, RULES[name][0])
    response = complete(ApiClient(site.api_key), messages=[MINE, USER], stream=True)
    assert response.status_code == 200, (names, response.content)
    response.close()
    return len(http_provider.bodies)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_every_pair_of_lessons_is_learned_by_one_request(
    http_provider: HttpProvider, site: Site, pair: tuple[str, str]
) -> None:
    assert count_calls(http_provider, site, pair) <= 4
    traits = RouteTraits.objects.get()
    for name in pair:
        field = RULES[name][1]
        assert getattr(traits, field) != getattr(PLAIN, field), (name, traits)


@pytest.mark.django_db(transaction=True)
def test_all_lessons_at_once_are_learned_by_one_request(
    http_provider: HttpProvider, site: Site
) -> None:
    assert count_calls(http_provider, site, RULES) <= openai_compatible.MOST_TRIES


def test_nothing_is_learned_from_what_is_refused_all_the_same(
    api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(400, lambda body: "max_tokens: unknown. max_completion_tokens: unknown.")
    assert api.chat().status_code == 500
    assert not RouteTraits.objects.exists()
    assert len(http_provider.bodies) <= 3


def test_a_callers_words_teach_no_window(api: ApiClient, http_provider: HttpProvider) -> None:
    words = "maximum context length is 300 tokens"
    seen: list[int] = []

    def quote(body: dict[str, Any]) -> str:
        seen.append(body["max_tokens"])
        return f"Cannot read: {words}" if len(seen) == 1 else ""

    http_provider.refuse(400, quote)
    complete(api, messages=[{"role": "user", "content": words}])
    assert not RouteTraits.objects.exists()


def test_what_was_learned_is_forgotten_when_the_route_is_edited() -> None:
    provider = Provider.objects.create(name="strict", base_url="https://one.example/v1")
    route = Route.objects.create(
        model=LanguageModel.objects.all()[0], provider=provider, provider_model="m"
    )

    def learned() -> str:
        RouteTraits.objects.update_or_create(
            provider_name="strict",
            provider_model="m",
            defaults={"limit_name": "max_tokens", "learned_at": "2026-04-05T12:00:00Z"},
        )
        return adaptation.describe(route)

    assert "max_tokens" in learned()
    provider.save(update_fields=["is_enabled"])
    assert adaptation.describe(route)
    provider.base_url = "https://two.example/v1"
    provider.save()
    assert adaptation.describe(route) == ""
    assert learned()
    route.provider_model = "m2"
    route.save()
    assert not RouteTraits.objects.exists()


def test_what_was_learned_at_another_address_is_not_taken_along(
    api: ApiClient, http_provider: HttpProvider
) -> None:
    api.chat()
    RouteTraits.objects.create(
        provider_name="default",
        provider_model=MODEL,
        base_url="https://elsewhere.example/v1",
        context_window_tokens=600,
        learned_at="2026-04-05T12:00:00Z",
    )
    http_provider.refuse(400, unsupported_limit)
    assert api.chat().status_code == 200
    traits = RouteTraits.objects.get()
    assert (traits.limit_name, traits.context_window_tokens) == ("max_completion_tokens", None)


def ask(request: ChatRequest) -> Completion:
    client = default_client_of("m")
    assert client is not None
    patience = Patience(first_token_by=time.monotonic() + 30, stream_by=0, silence_seconds=1)
    completion, _ = openai_compatible.ask(client, request, patience=patience)
    return completion


def test_a_very_long_conversation_gets_below_a_window_that_nobody_tells(
    http_provider: HttpProvider,
) -> None:
    http_provider.refuse(
        400, lambda body: "The prompt is too long" if len(body["messages"]) > 2 else ""
    )
    assert ask(request_of(*["Hi"] * 2_000)).text == "Hello!"
    assert len(http_provider.bodies) <= openai_compatible.MOST_TRIES


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
def test_what_teaches_nothing_is_asked_once(http_provider: HttpProvider, status: int) -> None:
    http_provider.refuse(status, lambda body: "Something else is wrong")
    with pytest.raises(ProviderError):
        ask(request_of())
    assert len(http_provider.bodies) == 1


# --- Without a provider ---------------------------------------------------------------------------


def request_of(*turns: str, room: int = 8_192) -> ChatRequest:
    earlier = [{"role": role, "content": text} for text in turns for role in ("user", "assistant")]
    system = {"role": "system", "content": "Be kind."}
    last = {"role": "user", "content": "And now?"}
    return ChatRequest([system, *earlier, last], room, turn_count=len(turns))


def test_a_conversation_loses_its_oldest_turns_to_a_small_window() -> None:
    request = request_of("a " * 4_000, "b " * 4_000, "c " * 400)
    fitted = adapted(request, Traits(context_window_tokens=4_096))
    assert [message["content"][0] for message in fitted.messages] == ["B", "c", "c", "A"]
    assert fitted.max_output_tokens == 1_024


def test_a_message_too_long_for_any_answer_still_asks_for_one() -> None:
    request = ChatRequest([{"role": "user", "content": "x" * 100_000}], 100)
    assert adapted(request, Traits(context_window_tokens=1_000)).max_output_tokens == 16


def test_places_of_messages_are_those_of_the_callers() -> None:
    messages = [MINE, USER, MINE]
    assert [place for _, place in arranged(messages, PLAIN)] == [0, 1, 2]
    joined = arranged(messages, Traits(system_messages=ONE_SYSTEM_MESSAGE))
    assert [place for _, place in joined] == [None, 1]
    alone = arranged([MINE], Traits(system_messages=NO_SYSTEM_ROLE))
    assert alone == [({"role": "user", "content": "Speak French."}, 0)]


@pytest.mark.parametrize(
    ("words", "window"),
    [
        ("This model's maximum context length is 4096 tokens. However, you requested", 4096),
        ("too large for model with 32,768 maximum context length", 32768),
        ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000", 4096),
        ("prompt is too long: 210000 tokens > 200000 maximum", 200000),
        ("the request exceeds the available context size. n_ctx 2048", 2048),
        ("exceeds the maximum number of tokens allowed (1048576).", 1048576),
    ],
)
def test_a_window_is_read_in_every_providers_words(words: str, window: int) -> None:
    error = ProviderError("x", status=400, words=words)
    learned = learn(error, ChatRequest([], 100), PLAIN)
    assert learned == Traits(context_window_tokens=window)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h/v1", "https://h/v1/chat/completions"),
        ("https://h/v1/", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions/", "https://h/v1/chat/completions"),
        (
            "https://h/openai/deployments/d?api-version=2024-10-21",
            "https://h/openai/deployments/d/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://h/d/chat/completions?api-version=2024-10-21",
            "https://h/d/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_an_address_may_name_the_chat_itself(base: str, url: str) -> None:
    assert chat_url(base) == url


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 20 tokens.",
        "max_tokens must be at most 1",
        "max_new_tokens must be <= 16",
    ],
)
def test_a_number_too_small_for_any_model_teaches_nothing(words: str) -> None:
    request = ChatRequest([{"role": "user", "content": "Hi"}], 1_024)
    assert learn(ProviderError("status_400", status=400, words=words), request, Traits()) is None


@pytest.mark.parametrize(
    "written",
    ["The maximum context length is 600 tokens", "stream_options", "system role not supported"],
)
@pytest.mark.django_db(transaction=True)
def test_what_a_model_wrote_teaches_nothing(
    api: ApiClient, http_provider: HttpProvider, written: str
) -> None:
    """Groq quotes a wrong call, and OpenRouter passes that on as a text. A retry may succeed."""
    upstream = {"message": "Failed to call a function.", "code": "tool_use_failed"}
    said = orjson.dumps({"error": upstream | {"failed_generation": written}}).decode()
    first = iter([said])
    http_provider.refuse(400, lambda body: next(first, ""))
    complete(api, stream=True, messages=[MINE, USER])
    assert complete(api, stream=True).status_code == 200
    assert not RouteTraits.objects.exists()


def test_what_a_tool_is_called_teaches_nothing(api: ApiClient, http_provider: HttpProvider) -> None:
    words = "the maximum context length is 600 tokens"
    tool = {"type": "function", "function": {"name": "x", "description": words}}
    first = iter([f"Invalid tool: {words}"])
    http_provider.refuse(400, lambda body: next(first, ""))
    complete(api, tools=[tool])
    assert complete(api).status_code == 200
    assert not RouteTraits.objects.exists()

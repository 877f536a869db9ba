"""A route that refuses a channel's temperature or stop words answers without them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from billing.models import Hold
from channels.errors import ProviderError
from channels.models import RouteHealth, RouteTraits
from channels.providers.base import ChatRequest
from channels.providers.lessons import learn
from channels.providers.traits import PLAIN, Traits
from channels.tests.factories import Site
from conversations.models import FailedRequest, Message
from conversations.tests.test_answer_settings import both_ways, done, settle
from conversations.tests.test_openai import assert_books_agree, complete
from tests.support.clients import ApiClient
from tests.support.provider import Body, HttpProvider

pytestmark = pytest.mark.django_db(transaction=True)

VALUE = (
    "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) "
    "value is supported."
)
STOP = "Unsupported parameter: 'stop' is not supported with this model."


def no_temperature(body: Body) -> str:
    return VALUE if "temperature" in body else ""


def no_stop(body: Body) -> str:
    return STOP if "stop" in body else ""


@pytest.fixture
def set_up(site: Site) -> Site:
    settle(site, temperature=Decimal("0.30"), stop_words=["END"])
    return site


@both_ways
def test_the_visitor_is_answered_in_the_same_call_and_charged_once(
    set_up: Site, api: ApiClient, http_provider: HttpProvider, is_stream: bool
) -> None:
    http_provider.refuse(400, no_temperature)
    http_provider.refuse(400, no_stop)
    body = done(api.chat(stream=is_stream), is_stream)
    assert body["reply"] == "Hello!"
    sent = [sorted({"temperature", "stop"} & one.keys()) for one in http_provider.bodies]
    assert sent == [["stop", "temperature"], ["stop"], []]
    assert Hold.objects.count() == 1
    assert Message.objects.filter(role="assistant").count() == 1
    assert not RouteHealth.objects.exists()
    assert not FailedRequest.objects.exists()
    assert_books_agree()


def test_the_lesson_is_kept_for_all_later_calls(
    set_up: Site, api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(400, no_temperature)
    for _ in range(2):
        assert api.chat().status_code == 200
    assert len(http_provider.bodies) == 3
    assert http_provider.bodies[-1]["stop"] == ["END"]
    traits = RouteTraits.objects.get()
    assert (traits.ignores_temperature, traits.ignores_stop) == (True, None)


def test_under_v1_only_the_channels_own_setting_is_left_out(
    set_up: Site, api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(400, no_temperature)
    assert complete(api).status_code == 200
    assert RouteTraits.objects.get().ignores_temperature
    refused = complete(api, temperature=0.3)
    assert refused.status_code == 400
    assert "does not support 0.3" in refused.json()["error"]["message"]
    assert http_provider.bodies[-1]["temperature"] == 0.3


def test_what_a_callers_parameters_caused_is_not_learned(
    set_up: Site, api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(
        400,
        lambda body: (
            "'temperature' is not supported with this model"
            if {"temperature", "reasoning_effort"} <= body.keys()
            else ""
        ),
    )
    assert complete(api, reasoning_effort="low").status_code == 200
    assert not RouteTraits.objects.exists()
    assert api.chat().status_code == 200
    assert http_provider.bodies[-1]["temperature"] == 0.3


def test_a_value_out_of_range_is_left_out_once_and_teaches_nothing(
    site: Site, api: ApiClient, http_provider: HttpProvider
) -> None:
    settle(site, temperature=Decimal("1.50"))
    http_provider.refuse(
        400,
        lambda body: (
            "temperature: Input should be less than or equal to 1"
            if body.get("temperature", 0) > 1
            else ""
        ),
    )
    assert api.chat().status_code == 200
    assert not RouteTraits.objects.exists()
    settle(site, temperature=Decimal("0.50"))
    assert api.chat().status_code == 200
    assert http_provider.bodies[-1]["temperature"] == 0.5


def test_a_request_that_is_refused_without_it_as_well_teaches_nothing(
    set_up: Site, api: ApiClient, http_provider: HttpProvider
) -> None:
    http_provider.refuse(400, lambda body: STOP + VALUE)
    assert api.chat().status_code == 500
    assert not RouteTraits.objects.exists()
    assert not RouteHealth.objects.exists()
    assert len(http_provider.bodies) <= 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("temperature", VALUE),  # OpenAI, Azure
        ("stop", STOP),
        ("temperature", "`temperature` is deprecated for this model."),  # Anthropic
        ("temperature", "invalid temperature: only 1 is allowed for this model"),  # Moonshot
        ("temperature", "gpt-5 models don't support temperature=0.2. Only temperature=1 is"),
        ("stop", "Argument not supported on this model: stop"),  # xAI
        ("stop", "Model grok-4-0709 does not support parameter stop."),
        ("temperature", "extra_forbidden\nbody\ntemperature\nExtra inputs are not permitted"),
        ("stop", "Unrecognized request argument supplied: stop"),
        ("temperature", "Extra inputs are not permitted, field: 'temperature', value: 0.7"),
        ("stop", "stop_sequences are not supported by this model"),
        ("temperature", "Unsupported parameter: 'temperature'. Supported: max_tokens, stop"),
    ],
)
def test_a_refused_setting_is_read_in_every_providers_words(name: str, words: str) -> None:
    error = ProviderError("status_400", status=400, words=words)
    options: dict[str, Any] = {"temperature": 0.3, "stop": ["END"]}
    request = ChatRequest([], 100, options, channel_options=frozenset(options))
    is_temperature = name == "temperature"
    assert learn(error, request, PLAIN) == Traits(
        ignores_temperature=is_temperature, ignores_stop=not is_temperature
    )
    # Nobody but the channel's owner goes without: the caller's own is refused.
    learned = learn(error, ChatRequest([], 100, options), PLAIN)
    assert learned is None or not learned.ignored()


@pytest.mark.parametrize(
    "words",
    [
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        "`temperature` may only be set to 1 when thinking is enabled",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2.",
        "temperature is not supported when logprobs are on",
        "Unsupported value: temperature must be between 0 and 1",
    ],
)
def test_words_about_a_value_or_a_combination_teach_nothing(words: str) -> None:
    error = ProviderError("status_400", status=400, words=words)
    options = {"temperature": 1.7}
    request = ChatRequest([], 100, options, channel_options=frozenset(options))
    assert learn(error, request, PLAIN) is None


def test_a_visitors_words_teach_nothing() -> None:
    said = "temperature is not supported"
    options = {"temperature": 0.3}
    request = ChatRequest(
        [{"role": "user", "content": f"Why: {said}?"}],
        100,
        options,
        channel_options=frozenset(options),
    )
    error = ProviderError("status_400", status=400, words=f"Cannot read “Why: {said}?”")
    assert learn(error, request, PLAIN) is None

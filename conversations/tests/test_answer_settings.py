"""What a prompt version says about answers: temperature, longest answer, stop words, fallback."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import orjson
import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django import Settings

from billing import settlement, spend_caps
from billing.models import Hold, LedgerEntry
from channels import channel_changes, routes
from channels.audit import COMMAND_LINE
from channels.errors import Fault, ProviderError
from channels.models import ApiKey, LanguageModel, RouteHealth
from channels.providers.base import ChatRequest, Completion, Patience
from channels.tests.factories import Site, make_site, set_prices
from conversations.models import ChatSession, FailedRequest, Message
from conversations.tests.test_openai import assert_books_agree, complete
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply
from tests.support.provider import HttpProvider
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)

OWN, OTHER = "llama-3.3-70b-versatile", "gemma2-9b-it"
CREDIT = 1_000_000
both_ways = pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])


def settle(site: Site, **fields: Any) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), **fields)


def fall_back(site: Site, own: int = 1, other: int = 3) -> None:
    """Let OTHER answer if OWN fails, at these prices in credits for each reply."""
    settle(site, fallback_model=LanguageModel.objects.get(model_id=OTHER))
    price("price_per_reply_microcredits", own, other)


def price(field: str, own: int, other: int) -> None:
    for model_id, credit in ((OWN, own), (OTHER, other)):
        LanguageModel.objects.filter(model_id=model_id).update(**{field: credit * CREDIT})


def done(response: Any, is_stream: bool) -> dict[str, Any]:
    """Return the answer's body, or the data of a stream's last event."""
    if not is_stream:
        body: dict[str, Any] = response.json()
        return body
    last: dict[str, Any] = orjson.loads(response.getvalue().rstrip().rsplit(b"data: ", 1)[1])
    return last


def available(site: Site) -> int:
    now = timezone.now()
    return settlement.get_available_microcredits(account_id=site.account_id, now=now)


# --- Temperature, stop words, longest answer ------------------------------------------------------


@both_ways
def test_the_provider_gets_the_channels_settings(
    site: Site, api: ApiClient, http_provider: HttpProvider, is_stream: bool
) -> None:
    settle(site, temperature=Decimal("0.30"), stop_words=["END", "\n\n"], max_answer_tokens=99)
    done(api.chat(stream=is_stream), is_stream)
    (body,) = http_provider.bodies
    assert (body["temperature"], body["stop"], body["max_tokens"]) == (0.3, ["END", "\n\n"], 99)
    settle(site, temperature=None, stop_words=None, max_answer_tokens=None)
    done(api.chat(stream=is_stream), is_stream)
    assert not {"temperature", "stop"} & http_provider.bodies[-1].keys()
    assert http_provider.bodies[-1]["max_tokens"] > 99


def test_under_v1_the_callers_parameters_come_first(
    site: Site, api: ApiClient, http_provider: HttpProvider
) -> None:
    settle(site, temperature=Decimal(0), stop_words=["END"], max_answer_tokens=99)
    complete(api)
    complete(api, temperature=1.5, stop="X", max_tokens=50)
    complete(api, temperature=None, max_completion_tokens=5_000)
    bodies = http_provider.bodies
    assert [body["temperature"] for body in bodies] == [0.0, 1.5, 0.0]
    assert [body["stop"] for body in bodies] == [["END"], "X", ["END"]]
    assert [body["max_tokens"] for body in bodies[:2]] == [99, 50]
    assert bodies[2]["max_completion_tokens"] == 99


def test_a_shorter_answer_holds_less(site: Site, api: ApiClient, provider: FakeProvider) -> None:
    set_prices(price_per_reply_microcredits=0, price_per_1k_output_tokens_microcredits=CREDIT)
    for longest in (100, 200):
        settle(site, max_answer_tokens=longest)
        api.chat()
        complete(api)
    held = Hold.objects.order_by("created_at").values_list("amount_microcredits", flat=True)
    assert list(held) == [CREDIT // 10, CREDIT // 10, CREDIT // 5, CREDIT // 5]
    assert_books_agree()


def test_a_model_with_shorter_answers_keeps_its_own_limit(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    settle(site, max_answer_tokens=4_000)
    LanguageModel.objects.update(max_output_tokens=500)
    api.chat()
    assert provider.requests[-1].max_output_tokens == 500


def test_stop_words_that_cut_everything_count_against_no_route(
    site: Site, api: ApiClient, http_provider: HttpProvider
) -> None:
    settle(site, stop_words=["H"])
    http_provider.deltas = [""]
    assert [api.chat(session_id=f"s{n}").status_code for n in range(8)] == [500] * 8
    assert not RouteHealth.objects.exists()
    assert not Message.objects.exists()
    http_provider.refuse(400, lambda body: "stop: invalid value" if "stop" in body else "")
    assert api.chat().status_code == 500
    assert not RouteHealth.objects.exists()


def test_a_changed_setting_applies_to_the_next_request(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    for words in (["a"], ["b"]):
        settle(site, stop_words=words)
        api.chat()
        assert provider.requests[-1].options == {"stop": words}
    assert [m.prompt_version for m in Message.objects.filter(role="assistant").order_by("id")] == [
        2,
        3,
    ]


# --- The fallback model ---------------------------------------------------------------------------


@both_ways
def test_each_model_is_charged_as_itself(
    site: Site, api: ApiClient, provider: FakeProvider, is_stream: bool
) -> None:
    fall_back(site, own=1, other=3)
    bodies = [done(api.chat(stream=is_stream), is_stream)]
    provider.fail()
    bodies.append(done(api.chat(stream=is_stream), is_stream))
    assert [body["model"] for body in bodies] == [OWN, OTHER]
    assert [body["credits"]["charged"] for body in bodies] == ["1.000000", "3.000000"]
    holds = Hold.objects.order_by("created_at")
    assert [hold.amount_microcredits for hold in holds] == [3 * CREDIT, 3 * CREDIT]
    assert [hold.captured_microcredits for hold in holds] == [CREDIT, 3 * CREDIT]
    entries = LedgerEntry.objects.filter(kind="charge").order_by("sequence")
    assert [entry.reason for entry in entries] == [f"Reply by {OWN}", f"Reply by {OTHER}"]
    message = Message.objects.filter(role="assistant").latest("created_at")
    assert (message.request_model, message.price_per_reply) == (OTHER, 3 * CREDIT)
    assert available(site) == 96 * CREDIT
    assert_books_agree()


def test_a_cheaper_fallback_is_charged_at_its_price(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site, own=3, other=1)
    provider.fail()
    assert api.chat().json()["credits"]["charged"] == "1.000000"
    assert Hold.objects.get().amount_microcredits == 3 * CREDIT
    assert available(site) == 99 * CREDIT


def test_credits_for_the_own_model_alone_get_no_fallback(
    api: ApiClient, provider: FakeProvider, site: Site
) -> None:
    poor = make_site(owner="poor@example.com", credit_amount=2)
    fall_back(poor, own=1, other=3)
    caller = ApiClient(poor.api_key)
    provider.fail()
    assert caller.chat().status_code == 500
    assert len(provider.requests) == 1
    assert caller.chat().json()["credits"] == {"charged": "1.000000", "remaining": "1.000000"}
    assert caller.chat().json()["credits"] == {"charged": "1.000000", "remaining": "0.000000"}
    assert caller.chat().json()["code"] == "credits_exhausted"
    assert_books_agree()


def test_credits_are_exact_when_many_messages_fall_back_at_once(provider: FakeProvider) -> None:
    site = make_site(owner="busy@example.com", credit_amount=10)
    fall_back(site, own=1, other=3)

    def ask(index: int) -> Any:
        return ApiClient(site.api_key).chat(session_id=f"s{index}").json()

    for _ in range(3):
        provider.fail()
    answers = run_in_threads(ask, 8)
    spent = sum(Decimal(answer["credits"]["charged"]) for answer in answers if "reply" in answer)
    assert available(site) == 10 * CREDIT - int(spent * CREDIT)
    assert available(site) >= 0
    assert not Hold.objects.filter(state="held").exists()
    assert_books_agree()


def test_tokens_of_the_more_expensive_model_are_held_and_those_of_the_answering_one_charged(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site, own=0, other=0)
    price("price_per_1k_output_tokens_microcredits", 1, 4)
    settle(site, max_answer_tokens=500)
    provider.fail()
    provider.script.append(reply(output_tokens=250))
    assert api.chat().json()["credits"]["charged"] == "1.000000"
    assert Hold.objects.get().amount_microcredits == 2 * CREDIT
    assert provider.requests[-1].max_output_tokens == 500
    assert_books_agree()


@pytest.mark.parametrize("fault", [Fault.REQUEST, Fault.DECLINED])
def test_a_fault_of_the_request_itself_asks_no_fallback(
    site: Site, api: ApiClient, provider: FakeProvider, fault: Fault
) -> None:
    fall_back(site)
    provider.fail("status_400", fault=fault)
    assert api.chat().status_code in (422, 500)
    assert len(provider.requests) == 1
    assert available(site) == 100 * CREDIT


def test_a_stream_that_has_begun_stays_with_its_model(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site)
    provider.script.append(reply("Well, BREAK"))
    assert done(api.chat(stream=True), is_stream=True)["code"] == "provider_error"
    assert len(provider.requests) == 1
    assert_books_agree()


def test_what_a_fallback_breaks_off_is_lost_at_its_price(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site, own=1, other=3)
    provider.fail()
    provider.script.append(reply("Well, BREAK"))
    assert done(api.chat(stream=True), is_stream=True)["code"] == "provider_error"
    assert LedgerEntry.objects.get(kind="absorbed").amount_microcredits == 3 * CREDIT
    assert available(site) == 100 * CREDIT
    assert_books_agree()


def test_the_own_models_failure_is_told_if_both_fail(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site)
    provider.fail("timeout")
    provider.fail("status_502")
    assert api.chat().status_code == 500
    failure = FailedRequest.objects.get()
    assert (failure.reason, failure.request_model) == ("timeout", OWN)
    assert available(site) == 100 * CREDIT
    assert ChatSession.objects.get().message_count == 0


def test_a_message_that_does_not_fit_the_fallbacks_window_is_not_asked_of_it(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site)
    LanguageModel.objects.filter(model_id=OTHER).update(context_window_tokens=512)
    provider.fail()
    assert api.chat("x y " * 400).status_code == 500
    assert len(provider.requests) == 1
    # A long conversation loses its oldest turns instead.
    for _ in range(3):
        api.chat("x y " * 150, session_id="long")
    provider.fail()
    assert api.chat("And?", session_id="long").json()["model"] == OTHER
    own, other = provider.requests[-2:]
    assert own.turn_count == 3
    assert other.turn_count < 3
    assert other.messages[-1] == own.messages[-1]


def test_saved_replies_test_keys_and_v1_use_no_fallback(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site)
    provider.fail()
    assert complete(api).status_code == 502
    assert len(provider.requests) == 1
    headers = {"X-Simulate": "provider_error"}
    assert ApiClient(site.test_key).chat(headers=headers).status_code == 500
    assert available(site) == 100 * CREDIT


def test_a_fallback_that_is_switched_off_answers_nobody(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site)
    api.chat()
    LanguageModel.objects.filter(model_id=OTHER).update(is_enabled=False)
    provider.fail()
    assert api.chat().status_code == 500


@both_ways
def test_the_providers_own_routes_are_asked_for_each_model(
    site: Site, api: ApiClient, http_provider: HttpProvider, is_stream: bool
) -> None:
    fall_back(site)
    http_provider.refuse(500, lambda body: "down" if body["model"] == OWN else "")
    body = done(api.chat(stream=is_stream), is_stream)
    assert (body["model"], body["credits"]["charged"]) == (OTHER, "3.000000")
    assert [sent["model"] for sent in http_provider.bodies] == [OWN, OTHER]
    assert_books_agree()


def test_a_spend_cap_for_the_own_model_alone_gets_no_fallback(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site, own=1, other=3)
    spend_caps.set_cap(
        channel=site.channel,
        day_microcredits=2 * CREDIT,
        month_microcredits=None,
        actor=COMMAND_LINE,
        now=timezone.now(),
    )
    provider.fail()
    assert api.chat().status_code == 500
    assert len(provider.requests) == 1
    assert [api.chat().json()["credits"]["charged"] for _ in range(2)] == ["1.000000"] * 2
    assert api.chat().json()["code"] == "spend_cap_reached"
    assert_books_agree()


def test_a_model_that_hangs_leaves_half_of_the_time_to_the_fallback(
    site: Site, api: ApiClient, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.PROVIDER_DEADLINE = 60
    given: list[float] = []

    class Hanging(FakeProvider):
        def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
            given.append(patience.first_token_by - time.monotonic())
            if len(given) == 1:
                raise ProviderError("timeout")
            return super().complete(request, patience=patience)

    monkeypatch.setattr(routes, "list_routes", lambda caller, **_: [Hanging()])
    fall_back(site)
    assert api.chat().json()["model"] == OTHER
    first, second = given
    assert 20 < first <= 30
    assert 40 < second <= 60


def test_a_database_that_is_lost_before_the_fallback_changes_no_failure(
    site: Site, api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    fall_back(site)
    provider.fail("timeout")
    answers = iter([[provider]])

    def list_routes(*_: Any, **__: Any) -> Any:
        found = next(answers, None)
        if found is None:
            raise OperationalError("gone")
        return found

    monkeypatch.setattr(routes, "list_routes", list_routes)
    assert api.chat().json()["code"] == "provider_error"
    assert FailedRequest.objects.get().reason == "timeout"
    assert available(site) == 100 * CREDIT


def test_a_key_that_may_not_use_the_fallback_gets_none(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    fall_back(site)
    ApiKey.objects.filter(channel=site.channel).update(allowed_models=OWN)
    provider.fail()
    assert api.chat().status_code == 500
    ApiKey.objects.filter(channel=site.channel).update(allowed_models=f"{OWN}\n{OTHER}")
    caller = site.caller()
    assert caller.fallback is not None
    assert caller.fallback.model_id == OTHER

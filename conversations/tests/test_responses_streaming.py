"""POST /v1/responses with `stream`: events in order, breaks, replays, and the final books."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from billing.models import CreditAccount, Hold, LedgerEntry
from channels.providers.base import Completion
from channels.tests.factories import Site, make_site
from conversations.models import Message
from conversations.tests.test_openai import CALL, assert_books_agree, assert_error
from conversations.tests.test_responses import WEATHER, answer, respond, text_part
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db(transaction=True)

Event = dict[str, Any]


def parse(body: bytes) -> list[Event]:
    """Return the events. Checks that names match their data, and that numbers are in order."""
    events = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        events.append(orjson.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def stream(api: ApiClient, **more: Any) -> list[Event]:
    response = respond(api, stream=True, **more)
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/event-stream"
    assert response["Cache-Control"] == "no-cache"
    return parse(response.getvalue())


def names(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def put_together(events: list[Event]) -> list[Any]:
    """Return the output that a client builds from the events. Checks that every item is done."""
    items: list[Any] = []
    done: list[Any] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        item = items[event["output_index"]] if event.get("output_index", 9) < len(items) else {}
        if kind == "output_item.added":
            assert event["output_index"] == len(items)
            items.append(event["item"])
            done.append(None)
        elif kind == "content_part.added":
            assert (event["item_id"], event["content_index"]) == (item["id"], len(item["content"]))
            item["content"].append(event["part"])
        elif kind == "function_call_arguments.delta":
            item["arguments"] += event["delta"]
        elif kind.endswith(".delta"):
            part = item["content"][event["content_index"]]
            assert kind.removesuffix(".delta") == part["type"]
            part["refusal" if part["type"] == "refusal" else "text"] += event["delta"]
        elif kind == "output_item.done":
            done[event["output_index"]] = event["item"]
    assert [one["id"] for one in done] == [one["id"] for one in items]
    return done


def test_streams_in_events_as_openai_does(api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(reply("Hello you", 7, 4))
    events = stream(api)
    assert names(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    hold = Hold.objects.get()
    begun = events[0]["response"]
    assert (begun["id"], begun["status"], begun["output"]) == (
        f"resp_{hold.id.hex}",
        "in_progress",
        [],
    )
    where = {"item_id": f"msg_{hold.id.hex}", "output_index": 0, "content_index": 0}
    assert events[4] == {
        "type": "response.output_text.delta",
        "sequence_number": 4,
        **where,
        "delta": "Hello ",
        "logprobs": [],
    }
    assert events[7]["part"] == text_part("Hello you")
    whole = events[-1]["response"]
    assert whole["output"] == [events[8]["item"]]
    assert whole["usage"]["total_tokens"] == 11
    assert begun.keys() == whole.keys()
    assert Message.objects.get().charged_microcredits == 1_000_000
    assert_books_agree()


def test_the_last_object_is_that_of_a_plain_call(api: ApiClient, provider: FakeProvider) -> None:
    said = reply("Wait", tool_calls=(CALL,), reasoning="Hm.", refusal="No.", finish_reason="length")
    provider.script += [said, said]
    plain = answer(api, tools=[WEATHER])
    events = stream(api, tools=[WEATHER])
    whole = events[-1]["response"]
    assert events[-1]["type"] == "response.incomplete"

    def without_ids(response: Event) -> Any:
        output = [item | {"id": ""} for item in response["output"]]
        return response | {"id": "", "created_at": 0, "output": output}

    assert without_ids(whole) == without_ids(plain)
    assert put_together(events) == whole["output"]
    assert_books_agree()


def test_thoughts_are_done_when_the_answer_begins(api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(reply("Hi", reasoning_content="Hm."))
    events = stream(api)
    told = names(events)
    assert told.index("reasoning_text.done") < told.index("output_text.delta")
    thoughts = events[told.index("output_item.done")]["item"]
    assert thoughts["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert put_together(events) == events[-1]["response"]["output"]


def test_tool_calls_stream_their_arguments(api: ApiClient, provider: FakeProvider) -> None:
    """Pieces come as providers cut them: first the name, then the arguments of two calls mixed."""
    other = CALL | {"id": "call_2"}
    pieces: list[Any] = [
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                         "function": {"name": "wea"}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "ther"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}},
                        {"index": 1} | other]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Lima"}'}}]},
    ]  # fmt: skip

    def cut(*args: Any, on_delta: Any, **more: Any) -> Completion:
        for piece in pieces:
            on_delta(piece)
        return reply("", tool_calls=(CALL, other), finish_reason="tool_calls")

    provider.stream = cut  # type: ignore[method-assign]
    events = stream(api, tools=[WEATHER])
    added = [event["item"] for event in events if event["type"].endswith("item.added")]
    assert [(item["name"], item["arguments"], item["status"]) for item in added] == [
        ("weather", "", "in_progress")
    ] * 2
    whole = events[-1]["response"]
    assert [item["call_id"] for item in whole["output"]] == ["call_1", "call_2"]
    assert put_together(events) == whole["output"]
    done = [event for event in events if event["type"].endswith("arguments.done")]
    assert {event["arguments"] for event in done} == {CALL["function"]["arguments"]}  # type: ignore[index]


def test_items_stand_in_the_order_in_which_they_came(
    api: ApiClient, provider: FakeProvider
) -> None:
    def backwards(*args: Any, on_delta: Any, **more: Any) -> Completion:
        on_delta({"tool_calls": [{"index": 0} | CALL]})
        on_delta({"refusal": "No."})
        on_delta("Hi")
        on_delta({"reasoning": "Hm."})
        on_delta("!")
        on_delta({"reasoning": " Hm!"})
        return reply("Hi!", tool_calls=(CALL,), refusal="No.", reasoning="Hm. Hm!")

    provider.stream = backwards  # type: ignore[method-assign]
    events = stream(api, tools=[WEATHER])
    whole = events[-1]["response"]
    assert [item["type"] for item in whole["output"]] == ["function_call", "message", "reasoning"]
    assert [part["type"] for part in whole["output"][1]["content"]] == ["refusal", "output_text"]
    # Reasoning that comes after its item is done is only in the whole response.
    call, message, thoughts = put_together(events)
    assert [call, message] == whole["output"][:2]
    assert thoughts["content"][0]["text"] == "Hm."
    assert whole["output"][2]["content"][0]["text"] == "Hm. Hm!"


def test_an_answer_of_no_piece_is_whole_all_the_same(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.script.append(reply("", finish_reason="content_filter"))
    events = stream(api)
    assert "output_text.delta" not in names(events)
    whole = events[-1]["response"]
    assert whole["incomplete_details"] == {"reason": "content_filter"}
    assert put_together(events) == whole["output"]
    assert whole["output"][0]["content"] == [text_part("")]


def test_what_fails_before_the_first_piece_is_a_plain_error(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.fail()
    assert_error(respond(api, stream=True), 502, "provider_error")
    assert_error(respond(api, stream=True, model="gpt-4o"), 404, "model_not_found", "model")
    broke = ApiClient(make_site(owner="b@example.com", credit_amount=0).api_key)
    assert_error(respond(broke, stream=True), 402, "credits_exhausted")
    assert_books_agree()


@pytest.mark.parametrize("words", ["Half of an BREAK answer", "One BREAK"])
def test_a_break_in_mid_stream_is_response_failed_and_our_own_loss(
    api: ApiClient, provider: FakeProvider, words: str
) -> None:
    provider.script.append(reply(words))
    first, *_, last = stream(api)
    assert last["type"] == "response.failed"
    failed = last["response"]
    assert (failed["id"], failed["status"]) == (first["response"]["id"], "failed")
    assert (failed["output"], failed["usage"]) == ([], None)
    assert failed["error"]["code"] == "provider_error"
    assert "Nothing was charged" in failed["error"]["message"]
    assert CreditAccount.objects.get().balance_microcredits == 100_000_000
    assert LedgerEntry.objects.latest("sequence").kind == "absorbed"
    assert not Message.objects.exists()
    assert_books_agree()


@pytest.mark.parametrize("is_tool_call", [False, True])
def test_a_replay_streams_the_stored_response(
    api: ApiClient, provider: FakeProvider, is_tool_call: bool
) -> None:
    calls = (CALL,) if is_tool_call else ()
    said = reply("" if is_tool_call else "Hello you", tool_calls=calls, reasoning="Hm.")
    provider.script.append(said)
    more: Any = {"headers": {"Idempotency-Key": "k1"}, "tools": [WEATHER]}
    first = stream(api, **more)
    response = respond(api, stream=True, **more)
    assert response["Idempotency-Replayed"] == "true"
    again = parse(response.getvalue())
    assert again[:2] == first[:2]
    assert again[-1]["response"] == first[-1]["response"]
    assert put_together(again) == put_together(first)
    assert len(provider.requests) == 1
    assert_books_agree()


def test_a_test_key_streams_the_demo_and_its_breaks(site: Site) -> None:
    api = ApiClient(site.test_key)
    events = stream(api)
    assert "demo reply" in put_together(events)[0]["content"][0]["text"]
    broken = stream(api, headers={"X-Simulate": "midstream_error"})
    assert broken[-1]["response"]["error"]["code"] == "provider_error"
    assert_books_agree()

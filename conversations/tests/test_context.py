"""Which turns of a long conversation are sent, by the provider's counts if there are any."""

from __future__ import annotations

import pytest

from channels.tests.factories import Site, make_site
from conversations.chat.message import build_prompt
from conversations.chat.prompt import Prompt
from conversations.chat.turns import MessageRow, PastTurn, latest_turns
from conversations.models import ChatSession
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db


@pytest.fixture
def gemma() -> Site:
    """A window of 8,192 tokens: 2,048 are kept for the answer, 6,144 for the prompt."""
    return make_site(model_id="gemma2-9b-it", requests_per_minute=1000)


def talk(api: ApiClient, provider: FakeProvider, sizes: list[int]) -> None:
    """Run turns of these sizes, which the provider reports as prompt and reply."""
    total = 0
    for size in sizes:
        provider.script.append(reply("short", total + size - 10, 10))
        assert api.chat("short").status_code == 200
        total += size


def turns_sent(provider: FakeProvider) -> int:
    return sum(part["role"] == "assistant" for part in provider.prompts[-1])


def test_turns_count_as_the_provider_counted_them(gemma: Site, provider: FakeProvider) -> None:
    api = ApiClient(gemma.api_key)
    talk(api, provider, [100, 2000, 2500, 2500])
    assert api.chat("short").status_code == 200
    # The texts are tiny. Only the counts show that no more than two of these turns fit.
    assert turns_sent(provider) == 2


def test_estimates_stand_in_where_nothing_was_counted(gemma: Site, provider: FakeProvider) -> None:
    api = ApiClient(gemma.api_key)
    for _ in range(4):
        provider.script.append(reply("y" * 4800, None, None))
        api.chat("x" * 2000)
    api.chat("short")
    assert turns_sent(provider) == 3


def test_counts_of_another_model_are_not_used(gemma: Site, provider: FakeProvider) -> None:
    api = ApiClient(gemma.api_key)
    talk(api, provider, [100, 5900, 5900])
    gemma.channel.model = type(gemma.channel.model).objects.get(model_id="mixtral-8x7b-32768")
    gemma.channel.save()
    api.chat("short")
    assert turns_sent(provider) == 3


def test_a_count_that_shrank_is_not_believed(gemma: Site, provider: FakeProvider) -> None:
    api = ApiClient(gemma.api_key)
    for prompt_tokens in (3000, 20, 3000):
        provider.script.append(reply("short", prompt_tokens, 10))
        api.chat("short")
    api.chat("short")
    assert turns_sent(provider) == 3


def build(turns: list[PastTurn], site: Site) -> Prompt:
    return build_prompt(
        model=site.caller().model,
        system_prompt="p",
        page=None,
        latest_turns=turns,
        message="m",
    )


def test_whole_turns_are_left_out_from_the_oldest_on(gemma: Site) -> None:
    turns = [PastTurn(f"u{n}", f"a{n}", 2500) for n in (3, 2, 1)]
    prompt = build(turns, gemma)
    assert [part["content"] for part in prompt.request.messages] == [
        "p",
        "u2",
        "a2",
        "u3",
        "a3",
        "m",
    ]


def test_the_window_is_filled_to_the_brim(gemma: Site) -> None:
    fixed = 6_144 - sum(PastTurn(text, "").size() - PastTurn("", "").size() + 6 for text in "pm")
    assert len(build([PastTurn("u", "a", fixed)], gemma).request.messages) == 4
    assert len(build([PastTurn("u", "a", fixed + 1)], gemma).request.messages) == 2


def test_a_context_that_is_too_long_is_asked_once_more_with_fewer_turns(gemma: Site) -> None:
    request = build([PastTurn(f"u{n}", f"a{n}", 10) for n in (3, 2, 1)], gemma).request
    assert request.turn_count == 3
    shorter = request.with_fewer_turns()
    assert shorter is not None
    assert [part["content"] for part in shorter.messages] == ["p", "u3", "a3", "m"]
    shortest = shorter.with_fewer_turns()
    assert shortest is not None
    assert [part["content"] for part in shortest.messages] == ["p", "m"]
    assert shortest.with_fewer_turns() is None


def test_messages_older_than_the_lease_are_read_again(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    """If the lease waited for another turn, its messages were read before that turn was stored."""
    for number in range(3):
        provider.script.append(reply(f"Answer {number}"))
        assert api.chat(f"Question {number}").status_code == 200
    session = ChatSession.objects.get()
    newest = [
        MessageRow(position, "stale", 1, 1, 1)
        for position in reversed(range(session.message_count - 2))
    ]
    turns = latest_turns(
        newest,
        session_pk=session.pk,
        message_count=session.message_count,
        model_id=site.channel.model.model_id,
    )
    assert [turn.assistant for turn in turns] == ["Answer 2", "Answer 1", "Answer 0"]

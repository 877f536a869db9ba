"""The Playground: the same limits, charges, and errors as the API, with a log-in, not a key."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from billing.models import DailyUsage, LedgerEntry
from channels import api_keys, channel_changes
from channels.errors import ProviderError
from channels.models import Membership
from channels.providers.base import Completion
from channels.tests.factories import Site, make_site, save_reply
from conversations.chat import streaming
from conversations.chat.simulation import PROVIDER_BEHAVIOURS, REFUSALS
from conversations.models import ChatSession, Message
from dashboard.console.access import begin_staff_view
from tests.support.clients import ApiClient, member_client, owner_client, page_of, text_of
from tests.support.fake_provider import FakeProvider, reply
from tests.support.programs import need_command

# An answer runs on its own thread, and both threads must see the same data.
pytestmark = pytest.mark.django_db(transaction=True)

Role = Membership.Role
CONVERSATION = "abcdef0123456789"


@pytest.fixture
def client(site: Site) -> Client:
    return member_client(site, Role.EDITOR)


def say(client: Client, site: Site, message: str = "Hello!", **fields: str) -> Any:
    return client.post(
        reverse("console:playground_send", args=(site.channel.id,)),
        {"message": message, "conversation": CONVERSATION, "mode": "test"} | fields,
    )


def events_of(response: Any) -> list[tuple[str, Any]]:
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/event-stream"
    body = b"".join(response.streaming_content).decode()
    response.close()
    return list(_parse(body))


def _parse(body: str) -> Iterator[tuple[str, Any]]:
    for event in filter(None, body.split("\n\n")):
        name, _, data = event.partition("\ndata: ")
        yield name.removeprefix("event: "), orjson.loads(data)


def charges() -> int:
    return LedgerEntry.objects.exclude(hold_id=None).count()


# --- Answers ------------------------------------------------------------------------------------


def test_free_answers_stream_and_cost_nothing(client: Client, site: Site) -> None:
    response = say(client, site)
    events = events_of(response)
    assert [name for name, _ in events][:2] == ["request", "delta"]
    name, done = events[-1]
    assert name == "done"
    assert done["reply"].startswith("This is a demo reply to a test key")
    assert "".join(data["text"] for name, data in events if name == "delta") == done["reply"]
    assert done["credits"]["charged"] == "0.000000"
    assert response["X-Gateway-Provider"] == "demo"
    assert response["X-Request-Id"]
    assert charges() == 0


@pytest.mark.parametrize("mode", ["test", "", "LIVE", "paid"])
def test_only_the_word_live_ever_costs_anything(
    client: Client, site: Site, provider: FakeProvider, mode: str
) -> None:
    events_of(say(client, site, mode=mode))
    assert provider.requests == []
    assert charges() == 0


def test_paid_answers_come_from_the_model_and_are_charged(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    provider.script.append(reply("Hi there", 7, 4))
    response = say(client, site, mode="live")
    done = events_of(response)[-1][1]
    assert done["credits"] == {"charged": "1.000000", "remaining": "99.000000"}
    assert done["usage"]["total_tokens"] == 11
    assert response["X-Gateway-Provider"] == "fake"
    assert charges() == 1
    stored = Message.objects.get(role=Message.Role.ASSISTANT)
    assert stored.request_id == response["X-Request-Id"]
    assert DailyUsage.objects.get().message_count == 1


@pytest.mark.parametrize("fails", [False, True])
def test_comments_keep_the_page_waiting_for_a_late_answer(
    client: Client,
    site: Site,
    provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,
) -> None:
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 0.001)
    go_on = threading.Event()

    def answer() -> Completion:
        assert go_on.wait(60)
        if fails:
            raise ProviderError("timeout")
        return reply("Late")

    provider.script.append(answer)
    response = say(client, site, mode="live")
    assert "X-Gateway-Provider" not in response
    frames = iter(response.streaming_content)
    assert next(frames).startswith(b"event: request\n")
    assert next(frames) == streaming.KEEP_ALIVE
    go_on.set()
    events = b"".join(frames).decode().split("\n\n")
    response.close()
    name, last = list(_parse("\n\n".join(e for e in events if not e.startswith(":"))))[-1]
    if fails:
        assert (name, last["code"]) == ("error", "provider_error")
    else:
        assert (name, last["reply"]) == ("done", "Late")
    assert charges() == (0 if fails else 1)


def test_the_conversation_goes_on_and_is_kept_under_the_persons_id(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    events_of(say(client, site, "One", mode="live"))
    events_of(say(client, site, "Two", mode="live"))
    said = [str(message["content"]).strip() for message in provider.prompts[1]]
    assert said[-3:] == ["One", "Reply 1", "Two"]
    user = Membership.objects.get(role=Role.EDITOR).user
    session = ChatSession.objects.get()
    assert session.session_id == f"playground-{user.pk}-{CONVERSATION}"
    history = ApiClient(site.api_key).history(session.session_id)
    assert [message["content"] for message in history][::2] == ["One", "Two"]


def test_the_owners_own_answers_are_given(client: Client, site: Site) -> None:
    save_reply(site.channel, "Open?", "From nine")
    response = say(client, site, "open", mode="live")
    assert events_of(response)[-1][1]["reply"] == "From nine"
    assert response["X-Gateway-Provider"] == "fixed"


def test_a_reply_is_rendered_as_transcripts_render_it(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    provider.script.append(reply("**Yes** <script>alert(1)</script> [x](javascript:alert(1))"))
    events = events_of(say(client, site, mode="live"))
    assert [name for name, _ in events[-2:]] == ["rendered", "done"]
    html = events[-2][1]["html"]
    assert "<strong>Yes</strong>" in html
    assert "<script" not in html
    assert 'href="javascript' not in html


def test_a_conversation_is_shown_again_while_it_can_go_on(
    client: Client, site: Site, provider: FakeProvider, clock: Any,
    django_assert_max_num_queries: Any,
) -> None:  # fmt: skip
    provider.script.append(reply("**Gladly**", 7, 4))
    events_of(say(client, site, "<b>One</b>", mode="live"))
    provider.fail()
    assert say(client, site, "Two", mode="live").status_code == 500
    talk = {"conversation": CONVERSATION, "mode": "live"}
    with django_assert_max_num_queries(15):
        html = show(client, site, **talk)
    for part in (
        "&lt;b&gt;One&lt;/b&gt;", "<strong>Gladly</strong>", "tokens: 7 in, 4 out",
        "credits: 1 charged", "provider_error", 'value="live" checked',
        f'data-conversation="{CONVERSATION}"',
    ):  # fmt: skip
        assert part in html
    for other in ({}, {"conversation": CONVERSATION}, talk | {"conversation": "abcdefgh"}):
        assert "Gladly" not in show(client, site, **other)
        assert 'data-conversation=""' in show(client, site, **other)
    # Nobody else's page shows it, even with its address.
    assert "Gladly" not in show(owner_client(site), site, **talk)
    clock.shift(25 * 3600)
    assert "Gladly" not in show(member_client(site, Role.EDITOR), site, **talk)


@pytest.mark.parametrize("conversation", ["", "x", "é" * 10, "a\0b" * 4, "' OR 1=1 --"])
def test_no_other_session_is_shown_by_its_address(
    client: Client, site: Site, conversation: str
) -> None:
    assert 'data-conversation=""' in show(client, site, conversation=conversation)


def test_two_people_do_not_share_a_conversation(client: Client, site: Site) -> None:
    events_of(say(client, site))
    events_of(say(owner_client(site), site))
    assert ChatSession.objects.count() == 2


def test_the_command_line_asks_the_same(client: Client, site: Site, live_server: Any) -> None:
    need_command("curl")
    name, data = events_of(say(client, site, "It's “me”"))[0]
    assert name == "request"
    assert "YOUR_TEST_KEY" in data["curl"]
    command = data["curl"].replace("http://testserver", live_server.url)
    command = command.replace("YOUR_TEST_KEY", site.test_key)
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=300, check=True
    )
    assert "event: done" in result.stdout
    messages = Message.objects.filter(role=Message.Role.USER)
    assert {message.content for message in messages} == {"It's “me”"}
    assert ChatSession.objects.count() == 1


def test_no_key_is_needed_and_none_is_shown(client: Client, site: Site) -> None:
    for key in site.channel.api_keys.all():
        api_keys.revoke_api_key(api_key=key)
    body = str(events_of(say(client, site)))
    assert site.test_key not in body


# --- Errors -------------------------------------------------------------------------------------


def test_every_simulation_can_be_had_for_free(client: Client, site: Site) -> None:
    for name in REFUSALS:
        response = say(client, site, simulate=name)
        assert response.json()["code"] == name
        assert response.status_code in (403, 429)
        assert f"-H 'X-Simulate: {name}'" in response.json()["curl"]
    failed = say(client, site, simulate="provider_error")
    assert (failed.status_code, failed.json()["code"]) == (500, "provider_error")
    events = events_of(say(client, site, simulate="midstream_error"))
    assert [name for name, _ in events].count("delta") == 5
    assert events[-1][0] == "error"
    assert events[-1][1]["code"] == "provider_error"
    assert events[-1][1]["request_id"]
    assert set(PROVIDER_BEHAVIOURS) == {"provider_error", "midstream_error", "slow"}


def test_a_paid_message_ignores_the_simulation(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    events = events_of(say(client, site, mode="live", simulate="provider_error"))
    assert events[-1][0] == "done"
    assert "X-Simulate" not in events[0][1]["curl"]


def test_without_credits_paid_is_refused_and_free_works(db: None, provider: FakeProvider) -> None:
    poor = make_site(
        owner="poor@example.com", credit_amount=0, fallback_replies={"credits_exhausted": "Sorry"}
    )
    client = owner_client(poor)
    response = say(client, poor, mode="live")
    assert response.status_code == 403
    body = response.json()
    assert (body["code"], body["fallback_reply"]) == ("credits_exhausted", "Sorry")
    assert body["request_id"] == response["X-Request-Id"]
    assert events_of(say(client, poor))[-1][0] == "done"
    assert charges() == 0


def test_the_channels_minute_is_one_for_api_and_playground(
    client: Client, site: Site, clock: Any
) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), requests_per_minute=2)
    events_of(say(client, site))
    assert ApiClient(site.test_key).chat().status_code == 200
    response = say(client, site)
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert int(response["Retry-After"]) == response.json()["retry_after"]
    assert ApiClient(site.test_key).chat().status_code == 429


def test_the_channels_day_counts(client: Client, site: Site, provider: FakeProvider) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), daily_quota=1)
    events_of(say(client, site, mode="live"))
    response = say(client, site, mode="live")
    assert (response.status_code, response.json()["code"]) == (429, "daily_quota_reached")


def test_a_channel_that_is_switched_off_says_so(client: Client, site: Site) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), is_enabled=False)
    response = say(client, site)
    assert (response.status_code, response.json()["code"]) == (403, "site_disabled")


@pytest.mark.parametrize("message", ["", "   ", "x" * 2001, "nul \x00"])
def test_what_the_api_would_not_take_is_refused(client: Client, site: Site, message: str) -> None:
    response = say(client, site, message)
    assert response.status_code == 400
    assert set(response.json()["fields"]) == {"message"}
    assert "curl" not in response.json()


@pytest.mark.parametrize("conversation", ["", "short", "../../visitor-1", "a" * 41, "é" * 10])
def test_nobody_writes_into_other_sessions(client: Client, site: Site, conversation: str) -> None:
    response = say(client, site, conversation=conversation)
    assert response.status_code == 400
    assert "conversation" in response.json()["fields"]
    assert not ChatSession.objects.exists()


# --- Who may ------------------------------------------------------------------------------------


def test_viewers_see_it_disabled_with_the_reason(site: Site) -> None:
    viewer = member_client(site, Role.VIEWER)
    html = show(viewer, site)
    assert "You are a viewer of this account" in html
    assert '<fieldset class="gw-plain gw-playground-inside" disabled>' in html
    assert say(viewer, site).status_code == 403
    assert not Message.objects.exists()


def test_staff_guests_cannot_talk(site: Site, admin_client: Client) -> None:
    session = admin_client.session
    begin_staff_view(session, site.account_id)
    session.save()
    assert "as staff" in show(admin_client, site)
    assert say(admin_client, site).status_code == 403


def test_strangers_and_visitors_find_nothing(site: Site) -> None:
    stranger = owner_client(make_site(owner="stranger@example.com"))
    assert say(stranger, site).status_code == 404
    response = say(Client(), site)
    assert response.status_code == 302
    assert "/accounts/login/" in response["Location"]
    assert not Message.objects.exists()


def test_a_forged_form_is_refused(client: Client, site: Site) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    assert say(strict, site).status_code == 403
    page, send = (
        reverse(f"console:{name}", args=(site.channel.id,))
        for name in ("playground", "playground_send")
    )
    assert client.get(send)["Location"] == page


def show(client: Client, site: Site, **query: str) -> str:
    response = client.get(reverse("console:playground", args=(site.channel.id,)), query)
    assert response.status_code == 200
    return response.content.decode()


def test_the_page_needs_few_queries(
    client: Client, site: Site, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(10):
        show(client, site)


@pytest.mark.usefixtures("connected")
def test_the_page_says_what_each_mode_costs(client: Client, site: Site) -> None:
    html = show(client, site)
    assert "It costs nothing" in html
    assert "Costs 1 credit per reply." in html
    assert 'value="test" checked' in html
    for name in (*REFUSALS, *PROVIDER_BEHAVIOURS):
        assert f'<option value="{name}"' in html


@pytest.mark.usefixtures("connected")
def test_without_a_provider_no_page_names_a_price(site: Site, settings: Any) -> None:
    owner = owner_client(site)
    pages = ("playground/", "start/", "connect/", "keys/")
    named = [page for page in pages if "1 credit" in text_of(owner.get(page_of(site, page)))]
    assert named == list(pages)
    settings.PROVIDER_BASE_URL = ""
    for page in pages:
        text = text_of(owner.get(page_of(site, page)))
        assert "1 credit" not in text
        assert "the built-in demo answers" in text


# --- While it streams ---------------------------------------------------------------------------


@pytest.mark.postgres
def test_holds_no_connection_while_it_streams(client: Client, site: Site, settings: Any) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL has a pool")
    # The middleware saves the log-in after the view, on its own connection.
    settings.SESSION_SAVE_EVERY_REQUEST = True
    response = say(client, site)
    body = iter(response.streaming_content)
    next(body)
    assert connection.connection is None
    next(body)
    assert connection.connection is None
    assert b"event: done" in b"".join(body)
    response.close()


def test_who_leaves_is_charged_as_if_they_had_stayed(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    provider.script.append(reply("One two three four"))
    response = say(client, site, mode="live")
    next(iter(response.streaming_content))
    response.close()
    assert charges() == 1
    assert Message.objects.count() == 2

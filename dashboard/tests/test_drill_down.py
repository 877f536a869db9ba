"""Every figure leads to the requests behind it, and they add up to it."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from billing import admission
from channels.models import LanguageModel
from channels.tests.factories import Site, make_site, set_prices
from common.money import show_credits
from common.pages.durations import duration
from conversations.models import ChatSession, FailedRequest, Message
from conversations.usage import rollup
from conversations.usage.reports import Line
from dashboard.console.requests import RequestsForm
from tests.support.clients import ApiClient, account_page, owner_client, staff_client, text_of
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

LINK = re.compile(
    r'<a [^>]*href="(/a/\d+/requests/\?[^"]+)"'
    r'(?: tabindex="-1" aria-label="([^"]+)")?[^>]*>(.*?)</a>',
    re.DOTALL,
)
# What a bar or a point says before its figure: “5 Apr, so far: Gemma 2 9B 3”. A column has none.
BAR = re.compile(
    r"^[\w: ]+(, so far)?: (all requests$|Errors|Median \(p50\)|p95|[\w. -]+(?= \S+$)) ?"
)
COMPLETION = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def busy(site: Site, provider: FakeProvider, clock: Any) -> Site:
    """An account with two channels, three models, and pages, for four days until now."""
    set_prices(price_per_1k_output_tokens_microcredits=1_333)
    other = make_site(name="Other shop")
    clock.shift(-3 * 86_400)
    for day in range(4):
        for number, one in enumerate((site, site, other)):
            api = ApiClient(one.api_key)
            provider.script.append(reply(input_tokens=100 + number, output_tokens=7 * day + 1))
            assert api.chat(metadata={"url": f"https://s.example/{number}"}).status_code == 200
            clock.shift(600 * (day + 1))
        ApiClient(site.api_key).chat(metadata={"url": "https://s.example/0/more"})
        provider.fail()
        ApiClient(site.api_key).chat(metadata={"url": "https://s.example/0"})
        for model in ("gpt", "gemma2-9b-it"):
            body = COMPLETION | {"model": model}
            ApiClient(other.api_key).post("/v1/chat/completions", body)
        for _ in range(2):
            ApiClient(site.api_key).chat("Again", headers={"Idempotency-Key": f"k{day}"})
        ApiClient(site.test_key).chat()
        clock.shift(86_400 - 6 * 600 * (day + 1) if day < 3 else 0)
    assert LanguageModel.objects.filter(model_id="gemma2-9b-it").exists()
    for number, pk in enumerate(Message.objects.values_list("pk", flat=True)):
        Message.objects.filter(pk=pk).update(duration_ms=100 * number)
    return site


def links_on(page: Any, least: int = 6) -> list[tuple[str, str]]:
    """Return the links to the log on a page, each with the text of its figure."""
    found = [
        (unescape(href), " ".join((unescape(label) or re.sub(r"<[^>]+>", " ", text)).split()))
        for href, label, text in LINK.findall(page.content.decode())
    ]
    assert len(found) >= least
    return found


def figures_of(page: Any) -> set[str]:
    """Return every way in which a page may write the figures of a log."""
    line = page.context["tally"].total
    assert isinstance(line, Line)
    form: RequestsForm = page.context["form"]
    assert not form.errors
    found = {
        f"{line.request_count:,}", f"{line.reply_count:,} answered", line.credits,
        f"{line.error_count:,} got no answer",
        f"{line.input_tokens:,}", f"{line.output_tokens:,}",
        f"{line.input_tokens:,} / {line.output_tokens:,}",
        f"{line.error_count} error today", f"{line.error_count} errors today",
        f"{form.value('code')}: {line.error_count:,}",
    }  # fmt: skip
    found |= {duration(ms) for ms in (line.p50_ms, line.p95_ms) if ms is not None}
    return {" ".join(one.split()) for one in found}


@pytest.mark.parametrize("is_rolled_up", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "", "overview/month/", "usage/", "usage/?range=24h", "usage/?range=30d", "usage/pages/",
        "usage/?traffic=test",
        "usage/?page=https://s.example/0", "usage/?model=gpt", "usage/?range=own&first={}&last={}",
        "usage/?channel={channel}",
    ],
)  # fmt: skip
def test_every_figure_equals_the_log_behind_it(
    busy: Site, owner: Client, path: str, is_rolled_up: bool
) -> None:
    if is_rolled_up:
        rollup.roll_up(now=timezone.now())
    yesterday = (timezone.now() - timedelta(days=1)).date()
    asked = path.format(yesterday, yesterday, channel=busy.channel.id)
    followed: dict[str, set[str]] = {}
    for link, figure in links_on(owner.get(account_page(busy, asked))):
        if link not in followed:
            followed[link] = figures_of(owner.get(link))
        shown = BAR.sub("", figure)
        assert not shown or shown in followed[link], (link, figure)


def test_lines_of_figures_equal_the_logs_exactly(busy: Site, owner: Client) -> None:
    usage, pages = (owner.get(account_page(busy, f"usage/{rest}")) for rest in ("", "pages/"))
    shown = [
        usage.context["total"],
        *usage.context["lines"],
        *usage.context["channel_lines"],
        *usage.context["model_lines"],
        *pages.context["page_lines"],
    ]
    assert len(shown) > 14
    for one in shown:
        line, links = one["line"], one["links"]
        found = {name: owner.get(link).context["tally"].total for name, link in links.items()}
        assert found["all"].request_count == line.request_count
        assert found["all"].charged_microcredits == line.charged_microcredits
        assert found["answered"].request_count == line.reply_count
        assert found["answered"].input_tokens == line.input_tokens
        assert found["errors"].request_count == line.error_count
        assert found["errors"].charged_microcredits == 0


def test_the_rows_behind_a_figure_are_as_many_as_it_says(busy: Site, owner: Client) -> None:
    for line, link in owner.get(account_page(busy, "usage/")).context["errors"]:
        rows = owner.get(link).context["rows"]
        assert [one["row"].error_code for one in rows] == [line.key] * line.error_count


def test_a_charge_in_the_ledger_leads_to_its_request(busy: Site, owner: Client) -> None:
    entries = owner.get(account_page(busy, "credits/")).context["entries"]
    charges = [one for one in entries if one["entry"].kind == "charge"]
    assert len(charges) > 10
    for one in charges:
        page = owner.get(one["request_url"])
        assert page.context["charge_number"] == one["entry"].sequence
        assert page.context["row"].charged_microcredits == one["entry"].amount_microcredits
    assert {one["request_url"] for one in entries if one["entry"].kind != "charge"} == {""}


def test_messages_of_a_conversation_lead_to_their_requests(busy: Site, owner: Client) -> None:
    session_pk = Message.objects.filter(channel=busy.channel, role="user").values_list(
        "session_id", flat=True
    )
    page = owner.get(account_page(busy, f"conversations/{session_pk[0]}/"))
    links = re.findall(r'href="(/a/\d+/requests/[^"?]+)"', page.content.decode())
    assert links
    assert {owner.get(link).status_code for link in links} == {200}


def test_errors_past_retention_are_said_to_be_counted_alone(busy: Site, owner: Client) -> None:
    rollup.roll_up(now=timezone.now())
    FailedRequest.objects.all().delete()
    page = owner.get(account_page(busy, "requests/?outcome=errors"))
    assert page.context["rows"] == []
    assert "errors stay counted" in text_of(page)


# --- Errors of a conversation ---------------------------------------------------------------------


@pytest.mark.parametrize("is_closed", [False, True])
def test_the_errors_of_a_conversation_lead_to_its_requests(
    busy: Site, owner: Client, provider: FakeProvider, clock: Any, is_closed: bool
) -> None:
    api = ApiClient(busy.api_key)
    for session_id in ("first", "second"):
        api.chat(session_id=session_id)
        for _ in range(2 if session_id == "first" else 1):
            provider.fail()
            api.chat(session_id=session_id)
    if is_closed:  # and begun again, with one more error
        clock.shift(25 * 3_600)
        api.chat(session_id="first")
        provider.fail()
        api.chat(session_id="first")
    page = owner.get(account_page(busy, "conversations/"))
    badges = {row.session.pk: row.error_count for row, _ in page.context["rows"] if row.error_count}
    links = [(href, text) for href, text in links_on(page, least=3) if "conversation=" in href]
    assert len(links) == len(badges)
    for href, text in links:
        log = owner.get(href)
        count = log.context["tally"].total.error_count
        assert text in (f"{count} error", f"{count} errors")
        (session_id,) = {one["row"].session_id for one in log.context["rows"]}
        pks = ChatSession.objects.filter(session_id=session_id).values_list("pk", flat=True)
        assert any(f"conversation={pk}&" in href for pk in pks)
        assert len(log.context["rows"]) == count
    if is_closed:
        firsts = ChatSession.objects.filter(session_id="first").order_by("pk")
        assert [badges[session.pk] for session in firsts] == [2, 1]


def test_a_conversation_filters_replies_failures_and_replays(busy: Site, owner: Client) -> None:
    for session in ChatSession.objects.filter(channel=busy.channel, is_test=False):
        query = f"requests/?since=2026-03-01T00:00&conversation={session.pk}"
        rows = owner.get(account_page(busy, query)).context["rows"]
        replies = Message.objects.filter(session=session, role="assistant")
        assert {one["row"].pk for one in rows if one["reply"]} == set(
            replies.values_list("pk", flat=True)
        )
        assert {one["row"].session_id for one in rows if not one["reply"]} <= {session.session_id}


def test_a_strangers_conversation_filters_nothing_out_of_it(
    busy: Site, stranger: Site, provider: FakeProvider
) -> None:
    session = ChatSession.objects.filter(channel=busy.channel).first()
    assert session is not None
    client = owner_client(stranger)
    page = client.get(account_page(stranger, f"requests/?conversation={session.pk}"))
    assert page.status_code == 200
    assert page.context["rows"] == []
    for wrong in ("0", "-1", "9" * 30, "abc"):
        page = client.get(account_page(stranger, f"requests/?conversation={wrong}"))
        assert "conversation" in page.context["form"].errors


# --- Credits --------------------------------------------------------------------------------------


def test_available_and_held_credits_lead_to_what_they_are_made_of(
    busy: Site, owner: Client, clock: Any
) -> None:
    now = timezone.now()
    for number, seconds in enumerate((60, 90, -1)):  # the last one has ended
        admission.place_hold(
            caller=busy.caller(),
            amount_microcredits=1_500_000 + number,
            now=now,
            expires_at=now + timedelta(seconds=seconds),
            request_id=f"held-{number}",
        )
    overview = owner.get(account_page(busy)).content.decode()
    links = re.findall(r'href="(/a/\d+/credits/)#([\w-]+)">([\d.,]+)</a>', overview)
    assert [place for _, place, _ in links] == ["gw-ledger", "gw-holds"]
    page = owner.get(links[0][0])
    html = page.content.decode()
    assert all(f'id="{place}"' in html for _, place, _ in links)
    held = [one["hold"] for one in page.context["holds"]]
    assert [hold.request_id for hold in held] == ["held-0", "held-1"]
    assert "held-1" in text_of(page)
    sum_held = sum(hold.amount_microcredits for hold in held)
    balance = page.context["entries"][0]["entry"].balance_after_microcredits
    assert [figure for _, _, figure in links] == [
        show_credits(balance - sum_held),
        show_credits(sum_held),
    ]
    spent = re.search(r'href="([^"]+)#gw-ledger">[\d.,]+</a></span><span[^>]*>charged', html)
    assert spent is not None
    kinds = {one["entry"].kind for one in owner.get(unescape(spent[1])).context["entries"]}
    assert kinds == {"charge"}


def test_another_accounts_holds_are_not_shown(busy: Site, stranger: Site) -> None:
    now = timezone.now()
    admission.place_hold(
        caller=busy.caller(),
        amount_microcredits=1_000_000,
        now=now,
        expires_at=now + timedelta(seconds=60),
        request_id="mine",
    )
    page = owner_client(stranger).get(account_page(stranger, "credits/"))
    assert page.context["holds"] == []


# --- The staff's overview -------------------------------------------------------------------------


def test_every_figure_of_the_staffs_overview_leads_to_its_rows(
    busy: Site, admin_client: Client
) -> None:
    page = admin_client.get("/admin/")
    cards = {card["label"]: card["url"] for card in page.context["cards"]}
    assert [rows_at(admin_client, url) > 0 for url in cards.values()] == [True, True, False, True]
    traffic = admin_client.get(page.context["activity_url"])
    today = traffic.context["today"]
    rows = {
        traffic.context["answered_url"]: today.reply_count,
        traffic.context["failed_url"]: today.error_count,
    }
    for url, figure in rows.items():
        assert rows_at(admin_client, url) == figure > 0
        assert f'href="{escape(url)}"' in traffic.content.decode()
    for url in cards.values():
        assert f'href="{escape(url)}"' in page.content.decode()


def test_the_overview_links_to_nothing_that_a_staff_member_may_not_see(busy: Site) -> None:
    client = staff_client("view_creditaccount", "view_message")
    page = client.get("/admin/")
    urls = [card["url"] for card in page.context["cards"]]
    assert [bool(url) for url in urls] == [False, True, False, False]
    traffic = client.get(page.context["activity_url"])
    assert traffic.context["answered_url"]
    assert not traffic.context["failed_url"]


def rows_at(client: Client, url: str) -> int:
    """Return how many rows a page of the staff admin lists."""
    page = client.get(url)
    assert page.status_code == 200, url
    return len(page.context["cl"].result_list)

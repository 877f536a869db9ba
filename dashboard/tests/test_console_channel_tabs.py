"""Usage, requests and conversations of one channel: tabs of the channel, with its figures only."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from channels.models import AuditEntry
from channels.tests.factories import Site, make_site
from conversations.models import ChatSession, Message
from dashboard.tests.test_console_conversations import streamed
from dashboard.tests.test_console_usage import csv_rows
from tests.support.clients import (
    UNKNOWN,
    ApiClient,
    account_page,
    assert_same_404,
    member_client,
    page_of,
    staff_guest,
    text_of,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

TABS = ("usage/", "requests/", "conversations/")
PAGES = (*TABS, "usage/pages/")


@pytest.fixture
def other(site: Site, provider: FakeProvider) -> Site:
    """Another channel of the same account. Both have answered, and the first has failed once."""
    other = make_site(name="Second shop")
    assert other.account_id == site.account_id
    page = {"url": "https://shop.example/help"}
    ApiClient(other.api_key).chat("Where is my bill?", metadata=page)
    ApiClient(site.api_key).chat("Where is my parcel?", metadata=page)
    provider.fail()
    ApiClient(site.api_key).chat("Where is my parcel?", metadata=page)
    return other


def links_of(text: str) -> list[str]:
    return [link.replace("&amp;", "&") for link in re.findall(r'(?:href|hx-get)="([^"]+)"', text)]


def main_of(text: str) -> str:
    """Return what is below the channel's head."""
    tabs = text.index('<nav class="gw-tabs" aria-label="Channel"')
    return text[text.index("</nav>", tabs) :]


def is_about(link: str, site: Site) -> bool:
    """Return whether a link leads to a page of the channel, or to one filtered by it."""
    parts = urlsplit(link)
    if parts.path.startswith(page_of(site)) or not parts.path:
        return True
    return parse_qs(parts.query).get("channel") == [str(site.channel.id)]


def test_usage_shows_the_figures_of_the_channel_alone(
    site: Site, other: Site, owner: Client
) -> None:
    page = owner.get(page_of(site, "usage/"))
    total = page.context["report"].total
    assert (total.reply_count, total.error_count) == (1, 1)
    assert owner.get(page_of(other, "usage/")).context["report"].total.request_count == 1
    text = text_of(page)
    assert "Second shop" not in main_of(text)
    # The ledger and the month are the whole account's.
    assert "compared with the account" in text
    assert "This month" not in text


def test_requests_and_conversations_are_those_of_the_channel(
    site: Site, other: Site, owner: Client
) -> None:
    listed = owner.get(page_of(site, "requests/"))
    assert {one["row"].channel_id for one in listed.context["rows"]} == {site.channel.id}
    assert len(listed.context["rows"]) == 2
    talks = owner.get(page_of(site, "conversations/"))
    assert [row.first_line for row in talks.context["page"].rows] == ["Where is my parcel?"]
    assert "Where is my bill?" not in text_of(talks)


@pytest.mark.parametrize("rest", PAGES)
def test_each_is_a_tab_of_the_channel(site: Site, other: Site, owner: Client, rest: str) -> None:
    text = text_of(owner.get(page_of(site, rest)))
    current = re.findall(r'<a class="gw-tab" href="([^"]+)" aria-current="page">', text)
    tab = rest.split("/")[0]
    assert page_of(site, f"{tab}/") in current
    assert f'href="{page_of(site)}" title="{site.channel.name}"' in text  # the trail
    assert f'href="{account_page(site, "channels/")}" aria-current="page"' in text
    assert text.count("<h1") == 1


@pytest.mark.parametrize("rest", PAGES)
def test_the_address_decides_about_the_channel(
    site: Site, other: Site, owner: Client, rest: str
) -> None:
    plain = owner.get(page_of(site, rest))
    asked = owner.get(page_of(site, rest), {"channel": str(other.channel.id)})
    assert asked.status_code == 200
    assert not asked.context.get("form") or not asked.context["form"].errors
    for name in ("report", "rows", "page_lines"):
        if name in plain.context and name == "report":
            assert asked.context[name].total == plain.context[name].total
        elif name in plain.context:
            assert len(asked.context[name]) == len(plain.context[name])


def test_filters_keep_working(site: Site, other: Site, owner: Client) -> None:
    for query, count in (("range=24h", 2), ("page=https://shop.example/", 2), ("traffic=test", 0)):
        report = owner.get(page_of(site, f"usage/?{query}")).context["report"]
        assert report.total.request_count == count, query
    for query, rows in (("outcome=answered", 1), ("outcome=failed", 1), ("code=nothing", 0)):
        assert len(owner.get(page_of(site, f"requests/?{query}")).context["rows"]) == rows, query
    for query, rows in (("text=parcel", 1), ("text=bill", 0), ("errors_only=on", 1)):
        page = owner.get(page_of(site, f"conversations/?{query}")).context["page"]
        assert len(page.rows) == rows, query
    wrong = text_of(owner.get(page_of(site, "usage/?range=own&first=2026-03-02&last=2026-03-01")))
    assert "The last day is before the first" in wrong
    # The channel is no filter here, and forms stay in the tab.
    for rest in TABS:
        text = text_of(owner.get(page_of(site, rest)))
        assert "All channels</option>" not in text
        for action in re.findall(r'method="get"[^>]* action="([^"]+)"', text):
            assert action == page_of(site, rest)


@pytest.mark.parametrize("rest", ["usage/", "usage/pages/", "conversations/"])
def test_links_keep_the_channel(site: Site, other: Site, owner: Client, rest: str) -> None:
    text = main_of(text_of(owner.get(page_of(site, rest))))
    places = ("usage/", "requests/", "conversations/")
    leading = [link for link in links_of(text) if any(f"/{one}" in link for one in places)]
    assert leading
    for link in leading:
        is_one = re.search(r"/(conversations|requests)/[\w-]+/(\?|#|$)", link)
        assert is_about(link, site) or is_one, link


def test_figures_lead_to_the_requests_tab_and_count_the_same(
    site: Site, other: Site, owner: Client
) -> None:
    links = owner.get(page_of(site, "usage/")).context["total"]["links"]
    for name, count in (("all", 2), ("answered", 1), ("errors", 1)):
        assert links[name].startswith(page_of(site, "requests/?")), name
        assert len(owner.get(links[name]).context["rows"]) == count, name


def test_downloads_contain_the_channel_alone(site: Site, other: Site, owner: Client) -> None:
    for rest, ending in (("usage/", "days.csv"), ("usage/", "export.csv")):
        text = text_of(owner.get(page_of(site, rest)))
        [link] = [one for one in links_of(text) if ending in one]
        rows = csv_rows(owner.get(link))
        if ending == "days.csv":
            assert sum(int(row["requests"]) for row in rows) == 2
        else:
            assert {row["channel"] for row in rows} == {site.channel.name}
    text = text_of(owner.get(page_of(site, "requests/")))
    [link] = [one for one in links_of(text) if "export.csv" in one]
    assert {row["channel"] for row in csv_rows(owner.get(link))} == {site.channel.name}
    text = text_of(owner.get(page_of(site, "conversations/")))
    [link] = [one for one in links_of(text) if "export.csv" in one]
    assert "bill" not in streamed(owner.get(link))


def test_a_conversation_opened_in_the_tab_stays_there(
    site: Site, other: Site, owner: Client
) -> None:
    session = ChatSession.objects.get(channel=site.channel)
    listed = text_of(owner.get(page_of(site, "conversations/?text=parcel")))
    one = account_page(site, f"conversations/{session.pk}/")
    [link] = {link for link in links_of(listed) if link.startswith(one)}
    text = text_of(owner.get(link))
    tab = page_of(site, "conversations/")
    assert f'<a class="gw-tab" href="{tab}" aria-current="page">' in text
    back = f"{tab}?text=parcel"
    assert f'href="{back}"' in text
    assert f'data-from="{back}"' in text
    # What is done there leads back there.
    query = urlsplit(link).query
    reply = Message.objects.get(role="assistant", session=session)
    rate = account_page(site, f"conversations/replies/{reply.pk}/feedback/?{query}")
    assert owner.post(rate, {"rating": "1"})["Location"] == f"{link}#reply-{reply.pk}"
    erased = owner.post(f"{one}erase/?{query}", {"confirm": "yes"})
    assert erased["Location"] == link
    # Opened from the account's list, it is a page of the account.
    assert 'aria-label="Channel"' not in text_of(owner.get(one))


def test_the_accounts_own_pages_are_as_before(site: Site, other: Site, owner: Client) -> None:
    assert owner.get("/usage/").context["report"].total.request_count == 3
    assert len(owner.get("/requests/").context["rows"]) == 3
    links = owner.get("/usage/").context["total"]["links"]
    assert links["all"].startswith(account_page(site, "requests/?"))
    assert "This month" in text_of(owner.get("/usage/"))


def test_empty_tabs_say_what_to_do(site: Site, owner: Client) -> None:
    for rest, words in (
        ("usage/", "No requests in this period"),
        ("requests/", "No requests in the last 7 days"),
        ("conversations/", "No conversations yet"),
    ):
        assert words in text_of(owner.get(page_of(site, rest))), rest


@pytest.mark.parametrize("rest", PAGES)
def test_a_strangers_channel_is_as_unknown_as_any(
    site: Site, stranger: Site, owner: Client, rest: str
) -> None:
    unknown = f"/channels/{UNKNOWN}/{rest}"
    assert_same_404(owner, page_of(site, rest), page_of(stranger, rest), unknown)


@pytest.mark.parametrize("rest", PAGES)
def test_every_member_may_look(site: Site, other: Site, rest: str) -> None:
    for role in ("viewer", "editor"):
        assert member_client(site, role).get(page_of(site, rest)).status_code == 200


def test_a_staff_guest_leaves_a_trace_that_names_the_channel(site: Site, other: Site) -> None:
    guest = staff_guest(site)
    guest.get(page_of(site, "conversations/"))
    entry = AuditEntry.objects.get(action="staff.read_text")
    assert entry.channel == site.channel


@pytest.mark.parametrize("rest", PAGES)
def test_the_tabs_take_few_queries(
    site: Site, other: Site, owner: Client, django_assert_max_num_queries: Any, rest: str
) -> None:
    session = ChatSession.objects.get(channel=site.channel)
    one = account_page(site, f"conversations/{session.pk}/?in=channel")
    # The list of requests reads three kinds of them. The account's own has a higher number too.
    for path, most in ((page_of(site, rest), 18 if rest == "requests/" else 15), (one, 15)):
        owner.get(path)
        with django_assert_max_num_queries(most):
            assert owner.get(path).status_code == 200

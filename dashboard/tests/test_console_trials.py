"""A newcomer who tries the test key finds that traffic, although pages show only live data."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from channels.tests.factories import Site
from dashboard.console import trials
from tests.support.clients import ApiClient, owner_client
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

PAGES = ["/overview/month/", "/usage/", "/conversations/"]
ONE = re.compile(r'1 conversation with test keys · <a class="gw-link" href="([^"]+)">Show</a>')


def text_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


@pytest.mark.parametrize("page", PAGES)
def test_the_first_call_with_a_test_key_is_found(site: Site, page: str) -> None:
    client = owner_client(site)
    assert "with test keys ·" not in text_of(client, page)
    assert ApiClient(site.test_key).chat("Is anybody there?").status_code == 200
    found = ONE.search(text_of(client, page))
    assert found
    link = found[1].replace("&amp;", "&")
    shown = text_of(client, link if link.startswith("/") else page + link)
    assert "with test keys ·" not in shown
    words = "1 answered" if page == "/usage/" else "Is anybody there?"
    assert words in shown


@pytest.mark.parametrize("page", PAGES)
def test_live_traffic_speaks_for_itself(site: Site, provider: FakeProvider, page: str) -> None:
    ApiClient(site.test_key).chat()
    ApiClient(site.api_key).chat()
    assert "with test keys ·" not in text_of(owner_client(site), page)


def test_filters_hold_for_test_traffic_too(site: Site) -> None:
    ApiClient(site.test_key).chat(metadata={"url": "https://shop.example/a"})
    client = owner_client(site)
    query = f"?channel={site.channel.id}&range=30d"
    found = ONE.search(text_of(client, "/usage/" + query))
    assert found
    assert f"channel={site.channel.id}" in found[1]
    assert "range=30d" in found[1]
    assert "with test keys ·" not in text_of(
        client, "/conversations/?first=2020-01-01&last=2020-01-02"
    )
    assert "1 request with test keys ·" in text_of(client, "/usage/?page=https://shop.example/")
    assert "with test keys ·" not in text_of(client, "/usage/?page=https://else.example/")


def test_completions_have_no_conversation_and_are_found_as_requests(site: Site) -> None:
    body = {"model": "gateway-default", "messages": [{"role": "user", "content": "Hi"}]}
    models = ApiClient(site.test_key).get("/v1/models").json()["data"]
    answer = ApiClient(site.test_key).post(
        "/v1/chat/completions", body | {"model": models[0]["id"]}
    )
    assert answer.status_code == 200, answer.content
    client = owner_client(site)
    for page in ("/overview/month/", "/usage/"):
        assert "1 request with test keys ·" in text_of(client, page)


def test_nothing_of_strangers_is_counted(site: Site, stranger: Site) -> None:
    ApiClient(stranger.test_key).chat()
    for page in PAGES:
        assert "with test keys ·" not in text_of(owner_client(site), page)


def test_many_are_counted_no_further_than_anybody_reads(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "MOST_COUNTED", 2)
    for number in range(3):
        ApiClient(site.test_key).chat(session_id=f"s{number}")
        assert "with test keys ·" in text_of(owner_client(site), "/usage/")
    assert "More than 2 conversations with test keys ·" in text_of(owner_client(site), "/usage/")


def test_the_pages_take_few_queries(site: Site, django_assert_max_num_queries: Any) -> None:
    ApiClient(site.test_key).chat()
    client = owner_client(site)
    for page in PAGES:
        client.get(page)
        with django_assert_max_num_queries(21):
            client.get(page)

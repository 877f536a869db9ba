"""The command listprovidermodels, which asks a provider what it serves."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command

from channels import catalogue
from channels.models import Provider
from channels.providers.openai_compatible import models_url
from tests.support.stub_server import StubServer, answer

pytestmark = pytest.mark.django_db

KEY = "sk-list-models-key"
LIST = {"object": "list", "data": [{"id": "b-model", "object": "model"}, {"id": "a-model"}]}


@pytest.fixture(autouse=True)
def _private_addresses(settings: Any) -> None:
    settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES = True


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("listprovidermodels", *arguments, stdout=out)
    return out.getvalue()


def create_provider(url: str) -> Provider:
    provider = Provider.objects.create(name="stub", base_url=url)
    catalogue.set_provider_key(provider=provider, clear=KEY)
    return provider


def ask(answered: bytes, *, status: str = "200 OK") -> str:
    """Run the command with a provider that answers this."""
    with StubServer(answer(answered, status=status)) as server:
        create_provider(server.url("/v1"))
        return run("--provider", "stub")


def test_lists_what_the_provider_serves_with_its_key() -> None:
    with StubServer(answer(orjson.dumps(LIST))) as server:
        create_provider(server.url("/v1/chat/completions"))
        assert run("--provider", "stub").split() == ["a-model", "b-model"]
        listed = json.loads(run("--provider", "stub", "--json"))
    assert listed == {"models": ["a-model", "b-model"]}
    request = server.requests[0]
    assert request.line == "GET /v1/models HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "content-type" not in request.headers


def test_a_bare_list_is_understood_and_nothing_acts_on_the_terminal() -> None:
    models = [{"id": "a"}, {"id": "\x1b[2Jb"}, {"id": "c\r"}]
    assert ask(orjson.dumps(models)).split() == ["a"]


@pytest.mark.parametrize(
    "answered", [b"<html>", b"{}", b"[1]", b"null", b'{"data": 1}', b'{"data": [{"name": "x"}]}']
)
def test_garbage_is_said_to_be_such(answered: bytes) -> None:
    with pytest.raises(CommandError, match="Does the address end in /v1"):
        ask(answered)


def test_a_refusal_is_said_in_plain_words() -> None:
    with pytest.raises(CommandError, match="does not accept the key"):
        ask(b"{}", status="401 Unauthorized")


def test_a_private_address_is_refused_unless_the_operator_allows_it(settings: Any) -> None:
    settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES = False
    with pytest.raises(CommandError, match="PROVIDER_ALLOW_PRIVATE_ADDRESSES"):
        ask(orjson.dumps(LIST))


def test_the_default_provider_may_be_private(settings: Any) -> None:
    settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES = False
    with StubServer(answer(orjson.dumps(LIST))) as server:
        settings.PROVIDER_BASE_URL = server.url("/v1")
        assert run().split() == ["a-model", "b-model"]


def test_what_cannot_be_asked_is_said(settings: Any) -> None:
    settings.PROVIDER_BASE_URL = ""
    with pytest.raises(CommandError, match="PROVIDER_BASE_URL is not set"):
        run()
    with pytest.raises(CommandError, match="no provider 'nobody'"):
        run("--provider", "nobody")
    Provider.objects.create(name="keyless", base_url="http://127.0.0.1:1/v1", key_setting="NO_KEY")
    with pytest.raises(CommandError, match="has no key"):
        run("--provider", "keyless")


def test_the_query_of_an_address_stays_at_its_end() -> None:
    assert (
        models_url("https://a.test/v1/?api-version=1") == "https://a.test/v1/models?api-version=1"
    )

"""Setting up a provider: nothing is saved before its test was seen, and no key shows anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.test import Client

from channels import catalogue, route_tests
from channels.models import AuditEntry, LanguageModel, Provider, Route, User
from channels.provider_setup import PRESETS
from channels.sealing import PROVIDER_KEYS
from common import http
from tests.support.clients import log_in, staff_client, text_of
from tests.support.stub_server import Peer, Request, StubServer, answer

pytestmark = pytest.mark.django_db

PAGE = "/admin/providers/set-up/"
KEY = "sk-wizard-key-0123456789"
MODELS = {"object": "list", "data": [{"id": "small-1", "object": "model"}]}
PONG = {"choices": [{"message": {"content": "pong"}, "finish_reason": "stop"}], "model": "small-1"}


def provider_like(peer: Peer, request: Request) -> None:
    """Answer as a provider does that accepts only KEY."""
    if request.headers.get("authorization") != f"Bearer {KEY}":
        peer.send(answer(b"{}", status="401 Unauthorized"))
        return
    is_list = request.line.startswith("GET")
    peer.send(answer(orjson.dumps(MODELS if is_list else PONG)))


@pytest.fixture
def server(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    """A provider on this machine, with enough time even on a busy machine."""
    settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(route_tests, "DEADLINE_SECONDS", 60.0)
    with StubServer(provider_like) as stub:
        yield stub
    http.close_idle()


def form(server: StubServer, **changes: str) -> dict[str, str]:
    values = {"name": "mine", "base_url": server.url("/v1"), "key": KEY, "provider_model": ""}
    return values | changes


def proof_in(text: str) -> str:
    found = re.search(r'name="tested" value="(\w+)"', text)
    assert found is not None
    return found[1]


def test_a_preset_fills_in_the_address(admin_client: Client) -> None:
    text = text_of(admin_client.get(PAGE))
    for preset in PRESETS.values():
        assert str(preset.title) in text
    assert 'id="gw-wizard"' not in text
    response = admin_client.get(PAGE, {"preset": "mistral"})
    assert response.context["form"]["base_url"].value() == "https://api.mistral.ai/v1"
    assert admin_client.get(PAGE, {"preset": "custom"}).context["form"]["name"].value() is None
    assert admin_client.get(PAGE, {"preset": "no-such"}).context["form"] is None


def test_every_preset_is_an_address_that_can_be_saved() -> None:
    for preset in PRESETS.values():
        if preset.base_url:
            Provider(name=f"x-{preset.name}", base_url=preset.base_url).full_clean()


def test_a_provider_is_tested_and_then_saved(admin_client: Client, server: StubServer) -> None:
    model = LanguageModel.objects.all()[0]
    sent = form(server, provider_model="small-1", serves=str(model.pk))
    tested = admin_client.post(PAGE, sent | {"test": "test"})
    text = text_of(tested)
    for words in ("The provider lists 1 model", "The route answers", "pong", 'value="small-1"'):
        assert words in text
    assert KEY not in text
    assert not Provider.objects.filter(name="mine").exists()
    saved = admin_client.post(PAGE, sent | {"save": "save", "tested": proof_in(text)}, follow=True)
    assert f"mine is set up. It serves {model.name}." in text_of(saved)
    assert KEY not in text_of(saved)
    provider = Provider.objects.get(name="mine")
    assert PROVIDER_KEYS.unseal(provider) == KEY
    assert provider.is_enabled
    route = Route.objects.get(provider=provider)
    assert (route.model, route.provider_model) == (model, "small-1")
    assert route.position == max(model.routes.values_list("position", flat=True))
    entries = AuditEntry.objects.filter(account=None)
    deeds = list(entries.order_by("id").values_list("action", flat=True))
    assert deeds[-3:] == ["provider.created", "provider.key_set", "route.created"]
    assert KEY not in str(list(entries.values()))


def test_nothing_is_saved_before_its_test_was_seen(
    admin_client: Client, server: StubServer
) -> None:
    sent = form(server)
    proof = proof_in(text_of(admin_client.post(PAGE, sent | {"test": "test"})))
    for changes in (
        {},
        {"tested": "0" * 64},
        {"tested": proof, "key": "sk-another-key"},
        {"tested": proof, "base_url": "https://elsewhere.example/v1"},
        {"tested": proof, "provider_model": "small-1"},
    ):
        response = admin_client.post(PAGE, sent | {"save": "save"} | changes)
        assert response.status_code == 422
        assert "Test this first" in text_of(response)
    assert not Provider.objects.filter(name="mine").exists()
    skipped = admin_client.post(PAGE, sent | {"save": "save", "skips_test": "on"})
    assert skipped.status_code == 302
    assert Provider.objects.get(name="mine").base_url == server.url("/v1")


def test_a_test_of_somebody_else_does_not_count(admin_client: Client, server: StubServer) -> None:
    sent = form(server)
    proof = proof_in(text_of(admin_client.post(PAGE, sent | {"test": "test"})))
    other = log_in(User.objects.create_superuser("second@example.com"))
    assert other.post(PAGE, sent | {"save": "save", "tested": proof}).status_code == 422


def test_a_refused_key_is_said_in_plain_words(admin_client: Client, server: StubServer) -> None:
    sent = form(server, key="sk-wrong-key", provider_model="small-1")
    text = text_of(admin_client.post(PAGE, sent | {"test": "test"}))
    assert text.count("does not accept the key") == 2
    assert "sk-wrong-key" not in text


def test_a_listed_provider_gets_a_key_only_at_its_own_address(
    admin_client: Client, server: StubServer
) -> None:
    elsewhere = form(server, name="groq", key="")
    for step in ("test", "save"):
        text = text_of(admin_client.post(PAGE, elsewhere | {step: step, "skips_test": "on"}))
        assert "groq exists, with the address https://api.groq.com/openai/v1" in text
    assert not server.requests
    Provider.objects.filter(name="groq").update(base_url=server.url("/v1"), is_enabled=False)
    sent = form(server, name="groq")
    proof = proof_in(text_of(admin_client.post(PAGE, sent | {"test": "test"})))
    assert Provider.objects.get(name="groq").key_ciphertext is None
    admin_client.post(PAGE, sent | {"save": "save", "tested": proof})
    groq = Provider.objects.get(name="groq")
    assert PROVIDER_KEYS.unseal(groq) == KEY
    assert groq.is_enabled
    again = admin_client.post(PAGE, form(server, name="groq", key="", test="test"))
    assert "The provider lists 1 model" in text_of(again)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "not a name"},
        {"name": "demo"},
        {"base_url": "ftp://models.example/v1"},
        {"base_url": "https://models.example/v1#part"},
        {"serves": "1"},
        {"serves": "999999", "provider_model": "x"},
        {"serves": "9" * 40, "provider_model": "x"},
        {"key": "k" * 5_000},
    ],
)
def test_what_is_wrong_is_refused(
    admin_client: Client, server: StubServer, changes: dict[str, str]
) -> None:
    before = Provider.objects.count()
    sent = form(server, save="save", skips_test="on") | changes
    assert admin_client.post(PAGE, sent).status_code == 422
    tested = admin_client.post(PAGE, form(server, test="test") | changes)
    assert tested.status_code == 200
    assert 'name="tested"' not in text_of(tested)
    assert Provider.objects.count() == before
    assert not server.requests


def test_a_preset_that_needs_a_key_asks_for_it(admin_client: Client, settings: Any) -> None:
    settings.PROVIDER_KEYS = {}
    optional = {"ollama", "vllm", "custom"}
    for name in PRESETS:
        field = admin_client.get(PAGE, {"preset": name}).context["form"].fields["key"]
        assert field.required is (name not in optional), name
    sent = {"name": "openai", "base_url": "https://api.openai.com/v1", "save": "save"}
    refused = admin_client.post(f"{PAGE}?preset=openai", sent | {"skips_test": "on"})
    assert refused.status_code == 422
    assert not Provider.objects.filter(name="openai").exists()


def test_a_listed_provider_keeps_its_key(admin_client: Client, settings: Any) -> None:
    groq = Provider.objects.get(name="groq")
    for keys, required in (({}, True), ({groq.key_setting: KEY}, False)):
        settings.PROVIDER_KEYS = keys
        field = admin_client.get(PAGE, {"preset": "groq"}).context["form"].fields["key"]
        assert field.required is required
    settings.PROVIDER_KEYS = {}
    catalogue.set_provider_key(provider=groq, clear=KEY)
    assert not admin_client.get(PAGE, {"preset": "groq"}).context["form"].fields["key"].required


def test_the_model_of_the_tested_name_is_suggested(
    admin_client: Client, server: StubServer
) -> None:
    model = LanguageModel.objects.all()[1]
    LanguageModel.objects.filter(pk=model.pk).update(model_id="small-1")
    for name in ("small-1", "maker/small-1"):
        sent = form(server, provider_model=name, test="test")
        assert admin_client.post(PAGE, sent).context["form"]["serves"].value() == str(model.pk)
    other = str(LanguageModel.objects.all()[0].pk)
    sent = form(server, provider_model="small-1", serves=other, test="test")
    assert admin_client.post(PAGE, sent).context["form"]["serves"].value() == other


def test_a_provider_that_no_route_asks_is_said_so(admin_client: Client, server: StubServer) -> None:
    sent = form(server, provider_model="small-1", save="save", skips_test="on")
    text = text_of(admin_client.post(PAGE, sent, follow=True))
    assert "No request reaches mine yet" in text
    provider = Provider.objects.get(name="mine")
    link = f"/admin/channels/route/add/?provider={provider.pk}&amp;provider_model=small-1"
    assert f'href="{link}"' in text.replace("&provider_model", "&amp;provider_model")
    added = admin_client.get(link.replace("&amp;", "&")).context["adminform"].form.initial
    assert added["provider_model"] == "small-1"
    Route.objects.create(
        model=LanguageModel.objects.all()[0], provider=provider, provider_model="x", position=99
    )
    assert "No request reaches" not in text_of(admin_client.post(PAGE, sent, follow=True))


def test_only_superusers_set_up_providers(admin_client: Client, server: StubServer) -> None:
    helper = staff_client("add_provider", "view_provider", "change_provider", "add_route")
    for step in ("test", "save"):
        assert helper.post(PAGE, form(server, **{step: step})).status_code == 403
    assert helper.get(PAGE).status_code == 403
    providers = "/admin/channels/provider/"
    assert "Set up and test" not in text_of(helper.get(providers))
    assert "Set up and test" in text_of(admin_client.get(providers))
    led = admin_client.get("/admin/channels/provider/set_up")
    assert led.status_code in (301, 302)
    assert not server.requests
    catalogue.set_provider_key(provider=Provider.objects.get(name="groq"), clear=KEY)
    assert KEY not in text_of(admin_client.get(PAGE, {"preset": "groq"}))

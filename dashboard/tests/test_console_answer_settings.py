"""Answer settings on the prompt's page: they belong to its versions, and errors say what to do."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from channels.models import (
    Account,
    AuditEntry,
    Channel,
    LanguageModel,
    Plan,
    PromptVersion,
    Provider,
    Route,
    RouteTraits,
)
from channels.tests.factories import Site
from conversations.models import Message
from tests.support.clients import ApiClient, member_client, owner_client, page_of, staff_guest
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

OTHER = "gemma2-9b-it"
SETTINGS = {
    "temperature": "0.3",
    "max_answer_tokens": "200",
    "stop_words": "END\r\n\r\n Visitor: \r\nEND",
    "fallback_model": OTHER,
}


def save(client: Any, site: Site, **fields: str) -> Any:
    form = client.get(page_of(site, "prompt/")).context["form"]
    return client.post(page_of(site, "prompt/save/"), {"digest": form["digest"].value()} | fields)


def stored(site: Site) -> Channel:
    return Channel.objects.get(id=site.channel.id)


def errors(response: Any) -> dict[str, str]:
    assert response.status_code == 422
    return {name: " ".join(words) for name, words in response.context["form"].errors.items()}


def test_saved_settings_are_a_version_and_answer_the_next_visitor(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    client = member_client(site, "editor")
    assert save(client, site, system_prompt="Be kind.", **SETTINGS).status_code == 302
    channel, version = stored(site), PromptVersion.objects.get(channel=site.channel, number=2)
    for one in (channel, version):
        assert one.temperature == Decimal("0.30")
        assert (one.max_answer_tokens, one.stop_words) == (200, ["END", "Visitor:"])
        assert str(one.fallback_model) == "Gemma 2 9B"
    api.chat()
    assert provider.requests[0].options == {"temperature": 0.3, "stop": ["END", "Visitor:"]}
    assert Message.objects.get(role="assistant").prompt_version == 2
    page = client.get(page_of(site, "prompt/")).content.decode()
    assert "<details open>" in page
    assert ">\nEND\nVisitor:</textarea>" in page
    assert f'<option value="{OTHER}" selected>' in page
    entry = AuditEntry.objects.get(action="channel.updated")
    assert entry.changes["system_prompt"] == ["version 1", "version 2"]
    assert entry.changes["fallback_model"] == [None, "Gemma 2 9B"]


def test_the_same_settings_make_no_version(site: Site) -> None:
    client = owner_client(site)
    for _ in range(2):
        save(client, site, **SETTINGS)
    assert stored(site).prompt_version == 2
    assert save(client, site).status_code == 302
    assert stored(site).prompt_version == 3
    assert "<details>" in client.get(page_of(site, "prompt/")).content.decode()


def test_versions_show_how_settings_differ_and_bring_them_back(site: Site) -> None:
    client = owner_client(site)
    save(client, site, **SETTINGS)
    save(client, site, **SETTINGS | {"temperature": "1.2", "fallback_model": ""})
    page = client.get(page_of(site, "prompt/2/")).content.decode()
    assert "Stop words: “END”, “Visitor:”" in page
    assert "Both versions have the same text." in page
    assert "Differences of the answer settings" in page
    # Text, sign and marks of a line: Temperature: 0.3 -> 1.2
    assert "<mark>0</mark>.<mark>3</mark>" in page
    assert "<mark>1</mark>.<mark>2</mark>" in page
    assert "Fallback model: Gemma 2 9B" in page
    client.post(page_of(site, "prompt/2/restore/"))
    client.post(page_of(site, "prompt/2/restore/"))
    channel = stored(site)
    assert (channel.prompt_version, channel.temperature) == (4, Decimal("0.30"))
    assert channel.fallback_model is not None
    assert (
        "same text and answer settings" in client.get(page_of(site, "prompt/2/")).content.decode()
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("temperature", "2.01", "2"),
        ("temperature", "-1", "0"),
        ("temperature", "hot", "number"),
        ("temperature", "0.123", "2"),
        ("max_answer_tokens", "15", "16"),
        (
            "max_answer_tokens",
            "1000000",
            "at most 8,192 tokens. Enter 8,192 or less.",
        ),
        ("max_answer_tokens", str(10**20), "2,147,483,647"),
        ("stop_words", "x" * 500, "A stop word has at most 50 characters; “xxxxxxxxxxxxxxxxxxxx…”"),
        ("stop_words", "a\nb\nc\nd\ne", "at most 4 stop words; these are 5"),
        ("stop_words", "a\x00b", "Remove the NUL character"),
        ("fallback_model", "gpt-17", "Choose one of the models shown here, or none."),
        ("fallback_model", "llama-3.3-70b-versatile", "Choose one of the models shown here"),
        ("fallback_model", "\x00", ""),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    site: Site, field: str, value: str, words: str
) -> None:
    response = save(owner_client(site), site, **{field: value})
    assert words in errors(response)[field]
    assert "<details open>" in response.content.decode()
    assert stored(site).prompt_version == 1


def test_a_fallback_must_be_offered_allowed_and_not_retired(site: Site) -> None:
    client = owner_client(site)
    save(client, site, fallback_model=OTHER)
    model = LanguageModel.objects.get(model_id=OTHER)
    LanguageModel.objects.filter(pk=model.pk).update(ends_on=timezone.now().date())
    # It stays until somebody changes it, but cannot be chosen again.
    assert save(client, site, fallback_model=OTHER, temperature="1").status_code == 302
    assert save(client, site, fallback_model="").status_code == 302
    assert "models shown here" in errors(save(client, site, fallback_model=OTHER))["fallback_model"]
    response = client.post(page_of(site, "prompt/2/restore/"), follow=True)
    assert "Gemma 2 9B retired on" in response.content.decode()
    assert stored(site).prompt_version == 4
    LanguageModel.objects.filter(pk=model.pk).update(
        ends_on=timezone.now().date() + timedelta(days=9)
    )
    plan = Plan.objects.create(name="Small")
    plan.models_allowed.set([site.channel.model])
    Account.objects.filter(id=site.account_id).update(plan=plan)
    assert "models shown here" in errors(save(client, site, fallback_model=OTHER))["fallback_model"]
    response = client.post(page_of(site, "prompt/2/restore/"), follow=True)
    assert "The plan Small does not allow this model." in response.content.decode()


def test_the_fallback_cannot_become_the_channels_model(site: Site) -> None:
    client = owner_client(site)
    save(client, site, fallback_model=OTHER)
    form = client.get(page_of(site, "")).context["form"]
    values = {name: form[name].value() or "" for name in form.fields} | {"model": OTHER}
    response = client.post(page_of(site, "save/"), values)
    assert "is this channel's fallback model" in errors(response)["model"]


def test_a_save_on_top_of_anothers_settings_is_refused(site: Site) -> None:
    client, editor = owner_client(site), member_client(site, "editor")
    digest = client.get(page_of(site, "prompt/")).context["form"]["digest"].value()
    save(editor, site, temperature="1", fallback_model=OTHER)
    mine = {"digest": digest, "temperature": "0"}
    response = client.post(page_of(site, "prompt/save/"), mine)
    assert response.status_code == 409
    assert [one.label for one in response.context["differences"]] == [
        "Temperature",
        "Fallback model",
    ]
    assert stored(site).temperature == 1


def test_only_editors_and_owners_change_settings(site: Site, stranger: Site) -> None:
    for client in (member_client(site, "viewer"), staff_guest(site)):
        assert save(client, site, **SETTINGS).status_code == 403
        assert "Answer settings" in client.get(page_of(site, "prompt/")).content.decode()
    response = owner_client(stranger).post(page_of(site, "prompt/save/"), SETTINGS)
    assert response.status_code == 404
    assert stored(site).prompt_version == 1


def learn(
    model_id: str, provider_name: str = "default", base_url: str = "", **traits: bool
) -> None:
    RouteTraits.objects.create(
        provider_name=provider_name,
        provider_model=model_id,
        base_url=base_url,
        learned_at=timezone.now(),
        **traits,
    )


def test_the_page_says_what_a_model_ignores(site: Site, settings: Settings) -> None:
    settings.PROVIDER_BASE_URL = "http://127.0.0.1:9/v1"
    client, model = owner_client(site), site.channel.model

    def page() -> str:
        return str(client.get(page_of(site, "prompt/")).content.decode())

    learn(model.model_id, base_url="http://elsewhere.example/v1", ignores_stop=True)
    assert " ignores " not in page()
    RouteTraits.objects.update(base_url=settings.PROVIDER_BASE_URL, ignores_temperature=True)
    assert f"{model} ignores the temperature." in page()
    assert f"{model} ignores stop words." in page()


def test_the_page_knows_the_routes_of_model_and_fallback(site: Site) -> None:
    other = LanguageModel.objects.get(model_id=OTHER)
    Channel.objects.filter(id=site.channel.id).update(fallback_model=other)
    provider = Provider.objects.create(name="strict", base_url="https://strict.example/v1")
    route = Route.objects.create(model=other, provider=provider, provider_model="m")
    learn("m", "strict", provider.base_url, ignores_temperature=True)
    client = owner_client(site)
    page = client.get(page_of(site, "prompt/")).content.decode()
    assert "Gemma 2 9B ignores the temperature." in page
    assert "ignores stop words" not in page
    route.is_enabled = False
    route.save()
    assert " ignores " not in client.get(page_of(site, "prompt/")).content.decode()

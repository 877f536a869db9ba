"""Accounts, channels, provider keys, and the choice of routes."""

from __future__ import annotations

import base64
import logging
import uuid
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from pytest_django import Settings

from channels import accounts, catalogue, channel_changes, routes
from channels.callers import Caller
from channels.errors import UnknownChannel, UnknownModel
from channels.models import (
    MAX_SYSTEM_PROMPT_CHARACTERS,
    Account,
    Channel,
    LanguageModel,
    Membership,
    Provider,
    Route,
    User,
)
from channels.models.catalogue import RESERVED_NAMES
from channels.providers.base import ChatRequest, Patience
from channels.tests.factories import Site, make_site
from common import crypto, http

pytestmark = pytest.mark.django_db


@pytest.fixture
def account(db: None) -> Account:
    return accounts.ensure_account(owner_email="owner@example.com")


# --- Accounts -------------------------------------------------------------------------------------


def test_an_account_is_made_once_with_its_owner() -> None:
    first = accounts.ensure_account(owner_email="New@Example.com")
    assert accounts.ensure_account(owner_email="new@example.COM") == first
    membership = Membership.objects.get()
    assert (membership.account, membership.role) == (first, "owner")
    assert membership.user.email == "New@example.com"
    assert not membership.user.has_usable_password()
    assert not membership.user.is_staff
    assert not membership.user.is_superuser


def test_a_person_who_only_helps_elsewhere_gets_an_account_of_their_own(account: Account) -> None:
    helper = User.objects.create_user("helper@example.com")
    Membership.objects.create(account=account, user=helper, role=Membership.Role.EDITOR)
    assert accounts.find_account(owner_email="helper@example.com") is None
    assert accounts.ensure_account(owner_email="helper@example.com") != account
    assert User.objects.filter(email="helper@example.com").count() == 1


def test_the_first_of_several_accounts_is_found(account: Account) -> None:
    second = Account.objects.create(name="Second")
    Membership.objects.create(account=second, user=User.objects.get(), role="owner")
    assert accounts.find_account(owner_email="OWNER@example.com") == account


@pytest.mark.parametrize(
    "email",
    ["", " ", "x", "@", "a@", "@b.c", "a b@c.de", "a@b@c.de", "a@b..de", "a\n@c.de", "a" * 300],
)
def test_no_account_is_made_for_what_is_no_address(email: str) -> None:
    with pytest.raises(ValidationError):
        accounts.ensure_account(owner_email=email)
    assert (User.objects.count(), Account.objects.count()) == (0, 0)


def test_a_long_address_is_taken() -> None:
    email = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.example.com"
    account = accounts.ensure_account(owner_email=email)
    assert accounts.find_account(owner_email=email) == account
    account.full_clean()


# --- Channels -------------------------------------------------------------------------------------


def test_a_channel_has_the_first_model_and_safe_limits(account: Account) -> None:
    channel = channel_changes.create_channel(account=account, name="Shop")
    assert channel.model.model_id == "llama-3.3-70b-versatile"
    assert (channel.requests_per_minute, channel.daily_quota) == (60, 1000)
    assert channel.is_enabled
    assert channel.id.version == 7


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"requests_per_minute": 100_001}, "requests_per_minute"),
        ({"requests_per_minute": "many"}, "requests_per_minute"),
        ({"daily_quota": 0}, "daily_quota"),
        ({"daily_quota": -5}, "daily_quota"),
        ({"daily_quota": 10**30}, "daily_quota"),
        ({"site_url": "javascript:alert(1)"}, "site_url"),
        ({"site_url": "ftp://x.example"}, "site_url"),
        ({"system_prompt": "x" * (MAX_SYSTEM_PROMPT_CHARACTERS + 1)}, "system_prompt"),
    ],
)
def test_a_wrong_field_is_named_and_no_channel_is_made_or_changed(
    account: Account, fields: dict[str, Any], field: str
) -> None:
    channel = channel_changes.create_channel(account=account, name="Shop")
    with pytest.raises(ValidationError) as caught:
        channel_changes.create_channel(account=account, **{"name": "Other"} | fields)
    assert set(caught.value.message_dict) == {field}
    with pytest.raises(ValidationError) as caught:
        channel_changes.update_channel(channel_id=str(channel.id), **fields)
    assert set(caught.value.message_dict) == {field}
    assert Channel.objects.get().name == "Shop"
    assert getattr(Channel.objects.get(), field) == getattr(channel, field)


def test_an_unknown_or_disabled_model_is_refused_with_those_there_are(account: Account) -> None:
    LanguageModel.objects.filter(model_id="gemma2-9b-it").update(is_enabled=False)
    for model_id in ("gpt-5", "gemma2-9b-it", "GEMMA2-9B-IT", " "):
        with pytest.raises(UnknownModel, match=r"llama-3\.3-70b-versatile, .*mixtral") as caught:
            channel_changes.create_channel(account=account, name="Shop", model_id=model_id)
        assert model_id in str(caught.value)
    LanguageModel.objects.update(is_enabled=False)
    with pytest.raises(UnknownModel, match="none is enabled"):
        channel_changes.create_channel(account=account, name="Shop")
    assert Channel.objects.count() == 0


@pytest.mark.parametrize("channel_id", ["", "x", "1", str(uuid.UUID(int=7)), "../x", "0" * 31])
def test_an_unknown_channel_is_refused(channel_id: str) -> None:
    with pytest.raises(UnknownChannel, match=f"'{channel_id}'"):
        channel_changes.update_channel(channel_id=channel_id, name="x")


def test_a_channel_changes_only_what_is_given(site: Site, stranger: Site) -> None:
    changed = channel_changes.update_channel(
        channel_id=str(site.channel.id), model_id="gemma2-9b-it", daily_quota=5
    )
    changed.refresh_from_db()
    assert (changed.model.model_id, changed.daily_quota, changed.name) == (
        "gemma2-9b-it",
        5,
        "Shop",
    )
    stranger.channel.refresh_from_db()
    assert stranger.channel.daily_quota == 1000


@pytest.mark.parametrize("price", [-1, -(10**15)])
def test_a_price_is_never_negative(price: int) -> None:
    with pytest.raises(ValidationError):
        catalogue.set_price(model_id="gemma2-9b-it", price_per_reply_microcredits=price)
    assert LanguageModel.objects.get(model_id="gemma2-9b-it").price_per_reply_microcredits == 10**6


# --- Provider keys --------------------------------------------------------------------------------


@pytest.fixture
def provider(db: None) -> Provider:
    """Return the only provider, which serves every model under the provider's own name."""
    Provider.objects.all().delete()
    provider = Provider.objects.create(name="acme", base_url="https://api.acme.test/v1")
    for model in LanguageModel.objects.all():
        Route.objects.create(
            model=model, provider=provider, provider_model=f"acme/{model.model_id}"
        )
    return provider


def test_a_providers_key_is_stored_encrypted_and_bound_to_its_row(provider: Provider) -> None:
    catalogue.set_provider_key(provider=provider, clear="sk-secret")
    provider.refresh_from_db()
    stored = bytes(provider.key_ciphertext or b"")
    assert provider.encryption_key_id == "t1"
    assert b"sk-secret" not in stored
    context = f"channels_provider.key_ciphertext.{provider.id}"
    assert crypto.decrypt("t1", stored, context=context) == "sk-secret"
    with pytest.raises(crypto.DecryptionError):
        crypto.decrypt("t1", stored, context=f"channels_apikey.key_ciphertext.{provider.id}")


def test_a_providers_key_can_be_forgotten(provider: Provider) -> None:
    catalogue.set_provider_key(provider=provider, clear="sk-secret")
    catalogue.set_provider_key(provider=provider, clear="")
    provider.refresh_from_db()
    assert (provider.key_ciphertext, provider.encryption_key_id) == (None, "")


# --- Routes ---------------------------------------------------------------------------------------


@dataclass
class Sent:
    """One request that a route sends."""

    url: str
    authorization: str | None
    model: str
    allow_private: bool


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Sent]:
    """Collect the requests that `common.http` sends. The answer is always “ok”."""
    calls: list[Sent] = []

    def post(
        url: str, *, headers: dict[str, str], body: bytes, allow_private: bool, **options: Any
    ) -> http.HttpResponse:
        model = orjson.loads(body)["model"]
        calls.append(Sent(url, headers.get("Authorization"), model, allow_private))
        answer = {"choices": [{"message": {"content": "ok"}}]}
        return http.HttpResponse(200, {}, orjson.dumps(answer))

    monkeypatch.setattr(http, "post", post)
    return calls


def call_all(caller: Caller) -> list[str]:
    """Ask every route of a caller. Returns their providers in order."""
    found = routes.list_routes(caller)
    for route in found:
        route.complete(
            ChatRequest([{"role": "user", "content": "Hi"}], 10), patience=Patience(0, 0, 0)
        )
    return [route.provider_name for route in found]


def test_a_route_goes_to_its_provider_with_its_key_and_model(
    site: Site, provider: Provider, sent: list[Sent]
) -> None:
    catalogue.set_provider_key(provider=provider, clear="sk-secret")
    assert call_all(site.caller()) == ["acme"]
    assert sent == [
        Sent(
            "https://api.acme.test/v1/chat/completions",
            "Bearer sk-secret",
            "acme/llama-3.3-70b-versatile",
            allow_private=False,
        )
    ]


def test_private_addresses_are_an_explicit_setting(
    site: Site, provider: Provider, sent: list[Sent], settings: Settings
) -> None:
    settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES = True
    call_all(site.caller())
    assert sent[0].allow_private


def test_a_provider_without_a_key_is_called_without_one(
    site: Site, provider: Provider, sent: list[Sent]
) -> None:
    assert call_all(site.caller()) == ["acme"]
    assert sent[0].authorization is None


def test_routes_are_tried_in_their_order(site: Site, provider: Provider, sent: list[Sent]) -> None:
    model = site.channel.model
    Route.objects.all().delete()
    names = ["third", "first", "second"]
    for name, position in zip(names, (7, 0, 7), strict=True):
        other = Provider.objects.create(name=name, base_url=f"https://{name}.test/v1/")
        Route.objects.create(model=model, provider=other, provider_model="m", position=position)
    Route.objects.create(model=model, provider=provider, provider_model="m", position=3)
    assert call_all(site.caller()) == ["first", "acme", "third", "second"]
    assert sent[0].url == "https://first.test/v1/chat/completions"


def test_two_routes_of_one_provider_both_count(
    site: Site, provider: Provider, sent: list[Sent]
) -> None:
    Route.objects.create(
        model=site.channel.model, provider=provider, provider_model="fallback", position=1
    )
    assert call_all(site.caller()) == ["acme", "acme"]
    assert [call.model for call in sent] == ["acme/llama-3.3-70b-versatile", "fallback"]


def test_routes_of_other_models_are_left_out(site: Site, provider: Provider) -> None:
    Route.objects.filter(model=site.channel.model).delete()
    assert routes.list_routes(site.caller()) == []


def test_the_default_provider_goes_first_under_our_own_name_for_the_model(
    site: Site, provider: Provider, sent: list[Sent], settings: Settings
) -> None:
    settings.PROVIDER_BASE_URL = "http://127.0.0.1:11434/v1"
    settings.PROVIDER_API_KEY = "default-key"
    catalogue.set_provider_key(provider=provider, clear="acme-key")
    assert call_all(site.caller()) == ["default", "acme"]
    first, second = sent
    assert first == Sent(
        "http://127.0.0.1:11434/v1/chat/completions",
        "Bearer default-key",
        "llama-3.3-70b-versatile",
        allow_private=True,
    )
    assert (second.authorization, second.allow_private) == ("Bearer acme-key", False)


def test_disabled_providers_and_routes_are_skipped(site: Site, provider: Provider) -> None:
    off = Provider.objects.create(name="off", base_url="https://off.test", is_enabled=False)
    model = site.channel.model
    Route.objects.create(model=model, provider=off, provider_model="m")
    Route.objects.create(model=model, provider=provider, provider_model="off", is_enabled=False)
    assert [route.provider_name for route in routes.list_routes(site.caller())] == ["acme"]
    Route.objects.update(is_enabled=False)
    assert routes.list_routes(site.caller()) == []


def test_seeded_providers_wait_for_their_key(
    site: Site, sent: list[Sent], settings: Settings
) -> None:
    settings.PROVIDER_KEYS = {"GROQ_API_KEY": "", "OPENROUTER_API_KEY": "or-key"}
    assert call_all(site.caller()) == ["openrouter"]
    settings.PROVIDER_KEYS = {"GROQ_API_KEY": "groq-key", "OPENROUTER_API_KEY": "or-key"}
    routes._kept = (("", ""), {})  # settings change with a restart
    assert call_all(site.caller()) == ["groq", "openrouter"]
    assert [(call.url.split("/")[2], call.authorization) for call in sent[1:]] == [
        ("api.groq.com", "Bearer groq-key"),
        ("openrouter.ai", "Bearer or-key"),
    ]


def test_a_stored_key_goes_before_the_setting(
    site: Site, sent: list[Sent], settings: Settings
) -> None:
    settings.PROVIDER_KEYS = {"GROQ_API_KEY": "from-setting", "OPENROUTER_API_KEY": ""}
    catalogue.set_provider_key(provider=Provider.objects.get(name="groq"), clear="stored")
    call_all(site.caller())
    assert [call.authorization for call in sent] == ["Bearer stored"]


@pytest.mark.parametrize("key_setting", ["SECRET_KEY", "KEY_DIGEST_PEPPER", "DATABASE_URL"])
def test_no_other_secret_of_the_installation_can_be_sent_as_a_key(
    site: Site, provider: Provider, key_setting: str
) -> None:
    Provider.objects.update(key_setting=key_setting)
    assert [route.provider_name for route in routes.list_routes(site.caller())] == ["demo"]


def test_an_unreadable_provider_key_takes_out_its_own_route_alone(
    site: Site, provider: Provider, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    other = Provider.objects.create(name="other", base_url="https://other.test/v1")
    Route.objects.create(model=site.channel.model, provider=other, provider_model="m", position=1)
    lost = base64.b64encode(b"l" * 32).decode()
    present = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = f"lost:{lost},{present}"
    catalogue.set_provider_key(provider=provider, clear="sk-secret")
    settings.ENCRYPTION_KEYS = present
    with caplog.at_level(logging.ERROR, logger="gateway.channels"):
        assert [route.provider_name for route in routes.list_routes(site.caller())] == ["other"]
    (record,) = caplog.records
    assert "'lost' is not in ENCRYPTION_KEYS" in vars(record)["reason"]


def test_a_provider_key_moved_to_another_provider_is_not_sent(
    site: Site, provider: Provider
) -> None:
    catalogue.set_provider_key(provider=provider, clear="sk-secret")
    thief = Provider.objects.create(
        name="thief",
        base_url="https://thief.test/v1",
        key_ciphertext=provider.key_ciphertext,
        encryption_key_id=provider.encryption_key_id,
    )
    Route.objects.create(model=site.channel.model, provider=thief, provider_model="m", position=1)
    assert [route.provider_name for route in routes.list_routes(site.caller())] == ["acme"]


# --- The demo -------------------------------------------------------------------------------------


def test_the_demo_answers_while_no_provider_is_configured(site: Site) -> None:
    assert [route.provider_name for route in routes.list_routes(site.caller())] == ["demo"]
    Provider.objects.all().delete()
    assert [route.provider_name for route in routes.list_routes(site.caller())] == ["demo"]


def test_the_demo_never_stands_in_for_a_configured_provider(site: Site, provider: Provider) -> None:
    """A model without a route is an error: nobody is charged for a demo answer."""
    Route.objects.all().delete()
    assert routes.list_routes(site.caller()) == []


def test_test_keys_are_always_answered_by_the_demo(
    site: Site, provider: Provider, settings: Settings
) -> None:
    settings.PROVIDER_BASE_URL = "http://127.0.0.1:1/v1"
    caller = site.caller(is_test=True)
    assert [route.provider_name for route in routes.list_routes(caller)] == ["demo"]


def test_routes_take_one_query(site: Site, django_assert_num_queries: Any) -> None:
    caller = make_site(owner="second@example.com").caller()
    with django_assert_num_queries(1):
        routes.list_routes(caller)


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_no_writer_gives_a_provider_a_name_of_the_gateways_own(name: str) -> None:
    for write in (
        lambda: Provider.objects.create(name=name, base_url="https://p.example/v1"),
        lambda: Provider.objects.filter(name="groq").update(name=name),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            write()


def test_the_two_keys_of_a_new_channel_have_names() -> None:
    account = accounts.ensure_account(owner_email="named@example.com")
    _channel, issued = channel_changes.create_channel_with_keys(account=account, name="Shop")
    assert [key.record.name for key in issued] == ["Live key", "Test key"]

"""Staff pages: they accept providers' keys and never show them, and they revoke API keys."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from channels import api_keys, key_uses
from channels.models import ApiKey, Provider, User
from channels.tests.factories import Site, note_use
from common import crypto
from tests.support.clients import ApiClient, text_of

pytestmark = pytest.mark.django_db

KEY = "sk-or-v1-never-shown-0123456789"


def form(**changes: Any) -> dict[str, Any]:
    """Return the fields of the provider form as a browser sends them."""
    return {
        "name": "acme",
        "base_url": "https://api.acme.test/v1",
        "key_setting": "",
        "is_enabled": "on",
        "new_key": "",
    } | changes


def stored_key(provider: Provider) -> str:
    provider.refresh_from_db()
    assert provider.key_ciphertext is not None
    context = f"channels_provider.key_ciphertext.{provider.id}"
    return crypto.decrypt(
        provider.encryption_key_id, bytes(provider.key_ciphertext), context=context
    )


@pytest.fixture
def acme(admin_client: Client) -> Provider:
    """Return a provider that the form added, with its key."""
    response = admin_client.post(reverse("admin:channels_provider_add"), form(new_key=f" {KEY} "))
    assert response.status_code == 302
    return Provider.objects.get(name="acme")


def test_a_key_is_stored_encrypted(acme: Provider) -> None:
    assert stored_key(acme) == KEY


def test_an_empty_field_keeps_the_key_and_a_new_one_replaces_it(
    admin_client: Client, acme: Provider
) -> None:
    page = reverse("admin:channels_provider_change", args=[acme.id])
    admin_client.post(page, form(base_url="https://eu.acme.test/v1"))
    assert (stored_key(acme), acme.base_url) == (KEY, "https://eu.acme.test/v1")
    admin_client.post(page, form(new_key="sk-second-key"))
    assert stored_key(acme) == "sk-second-key"


def test_a_stored_key_is_on_no_page(admin_client: Client, acme: Provider) -> None:
    sealed = bytes(acme.key_ciphertext or b"")
    refused = admin_client.post(
        reverse("admin:channels_provider_change", args=[acme.id]), form(name="", new_key=KEY)
    )
    assert "Fill in this field." in refused.content.decode()
    pages = [refused] + [
        admin_client.get(address)
        for address in (
            reverse("admin:index"),
            reverse("admin:channels_provider_changelist"),
            reverse("admin:channels_provider_change", args=[acme.id]),
            reverse("admin:channels_provider_history", args=[acme.id]),
            reverse("admin:channels_provider_delete", args=[acme.id]),
        )
    ]
    for page in pages:
        assert page.status_code == 200
        for secret in (KEY, sealed.hex(), base64.b64encode(sealed).decode(), repr(sealed)):
            assert secret not in page.content.decode()
    assert not LogEntry.objects.filter(change_message__contains=KEY).exists()


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://x.test", "api.acme.test/v1", "x"])
def test_a_providers_address_must_be_a_web_address(admin_client: Client, url: str) -> None:
    response = admin_client.post(reverse("admin:channels_provider_add"), form(base_url=url))
    assert response.status_code == 200
    assert not Provider.objects.filter(name="acme").exists()


def revoke(client: Client, *records: ApiKey) -> Any:
    data = {"action": "revoke", "_selected_action": [str(record.id) for record in records]}
    return client.post(reverse("admin:channels_apikey_changelist"), data, follow=True)


def test_selected_keys_are_revoked(admin_client: Client, site: Site) -> None:
    record = ApiKey.objects.get(channel=site.channel, mode="live")
    assert "Revoked" in revoke(admin_client, record).content.decode()
    assert ApiClient(site.api_key).get("/api/key").status_code == 401
    assert ApiClient(site.test_key).get("/api/key").status_code == 200


def test_staff_without_the_permission_revoke_nothing(client: Client, site: Site) -> None:
    client.force_login(User.objects.create_user("staff@example.com", is_staff=True))
    revoke(client, ApiKey.objects.get(channel=site.channel, mode="live"))
    assert ApiClient(site.api_key).get("/api/key").status_code == 200


def test_keys_are_not_shown_in_clear(admin_client: Client, site: Site) -> None:
    record = ApiKey.objects.get(channel=site.channel, mode="live")
    for address in (
        reverse("admin:channels_apikey_changelist"),
        reverse("admin:channels_apikey_change", args=[record.id]),
    ):
        text = admin_client.get(address).content.decode()
        assert record.masked in text
        for secret in (site.api_key, site.test_key, record.key_digest):
            assert secret not in text
    assert api_keys.reveal_api_key(record) == site.api_key


def test_a_person_can_be_added_and_logs_in(admin_client: Client) -> None:
    person = {
        "email": "New@example.com",
        "usable_password": "true",
        "password1": "correct-horse-battery",
        "password2": "correct-horse-battery",
    }
    assert admin_client.post(reverse("admin:channels_user_add"), person).status_code == 302
    client = Client()
    form = {"login": "new@EXAMPLE.com", "password": "correct-horse-battery"}
    assert client.post("/accounts/login/", form)["Location"] == "/"
    assert "sessionid" in client.cookies
    again = admin_client.post(
        reverse("admin:channels_user_add"), person | {"email": "nEw@example.com"}
    )
    assert "Somebody has signed up with this e-mail address" in again.content.decode()
    assert User.objects.filter(email__iexact="new@example.com").count() == 1


def test_a_new_address_takes_the_place_of_the_old_one(admin_client: Client) -> None:
    user = User.objects.create_user("old@example.com", "correct-horse-battery")
    page = reverse("admin:channels_user_change", args=[user.id])
    none = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    person = {"email": "New@example.com", "is_active": "on"} | none
    assert admin_client.post(page, person).status_code == 302
    for email, is_in in (("old@example.com", False), ("new@example.com", True)):
        client = Client()
        client.post("/accounts/login/", {"login": email, "password": "correct-horse-battery"})
        assert ("sessionid" in client.cookies) == is_in


def test_staff_see_a_keys_name_use_and_restrictions_and_change_none(
    admin_client: Client, site: Site
) -> None:
    key = site.channel.api_keys.get(mode="live")
    ApiKey.objects.filter(id=key.id).update(name="Checkout", allowed_addresses="203.0.113.0/24")
    note_use(key.id, {"REMOTE_ADDR": "203.0.113.7", "HTTP_USER_AGENT": "shop/1.0"})
    key_uses.write_all()
    listed = text_of(admin_client.get("/admin/channels/apikey/?q=checkout"))
    assert "Checkout" in listed
    assert f"{site.test_key[-4:]}<" not in listed
    page = text_of(admin_client.get(f"/admin/channels/apikey/{key.id}/change/"))
    for shown in ("Checkout", "203.0.113.0/24", "203.0.113.7, shop/1.0"):
        assert shown in page
    assert 'name="name"' not in page
    assert "never" in text_of(admin_client.get("/admin/channels/apikey/?mode__exact=test"))

"""Account keys under /admin/: staff see them masked and revoke them, each with its permission."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from channels.models import AccountKey, AuditEntry
from channels.tests.factories import Site
from tests.support.clients import UNKNOWN, owner_client, staff_client, text_of
from tests.support.manage import ManageClient, manager_of

pytestmark = pytest.mark.django_db
LIST = "/admin/channels/accountkey/"


@pytest.fixture
def manager(site: Site) -> ManageClient:
    client = manager_of(site)
    client.get("channels")
    return client


def key_of(manager: ManageClient) -> AccountKey:
    return AccountKey.objects.get(key_last_four=manager.key[-4:])


def revoke(client: Client, *keys: AccountKey) -> Any:
    data = {"action": "revoke", "_selected_action": [str(key.id) for key in keys]}
    return client.post(LIST, data, follow=True)


def test_a_key_is_seen_masked_with_its_creator_and_last_use(
    site: Site, stranger: Site, manager: ManageClient, clock: Any
) -> None:
    other = manager_of(stranger)
    key = key_of(manager)
    owner = site.channel.account.members.get()
    AccountKey.objects.filter(id=key.id).update(created_by=owner, name="Deploy")
    client = staff_client("view_accountkey")
    for page in (f"{LIST}?q={key.masked}", f"{LIST}{key.id}/change/"):
        text = text_of(client.get(page))
        for shown in (key.masked, "Deploy", owner.email, site.channel.account.name):
            assert shown in text, page
        for secret in (manager.key, key.key_digest, bytes(key.key_ciphertext).hex()):
            assert secret not in text
    assert "never" not in text_of(client.get(f"{LIST}?q=deploy"))
    assert "never" in text_of(client.get(f"{LIST}?q={other.key[-4:]}"))
    of_account = text_of(client.get(f"{LIST}?account__id__exact={site.account_id}"))
    assert key.masked in of_account
    assert key_of(other).masked not in of_account


def test_seeing_is_not_revoking(manager: ManageClient) -> None:
    key = key_of(manager)
    client = staff_client("view_accountkey")
    assert 'value="revoke"' not in text_of(client.get(LIST))
    revoke(client, key)
    form = {"name": "Mine", "revoked_at_0": "2026-01-01", "account": "1"}
    assert client.post(f"{LIST}{key.id}/change/", form).status_code == 403
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{key.id}/delete/", {"post": "yes"}).status_code == 403
    assert manager.get("channels").status_code == 200
    assert not AuditEntry.objects.filter(action="account_key.revoked").exists()


def test_the_permission_to_change_account_keys_alone_revokes_one(
    site: Site, stranger: Site, manager: ManageClient
) -> None:
    others = (manager_of(site), manager_of(stranger))
    client = staff_client("change_accountkey", email="support@example.com")
    for _ in range(2):
        assert "Revoked" in text_of(revoke(client, key_of(manager)))
    assert manager.get("channels").status_code == 401
    assert {one.get("channels").status_code for one in others} == {200}
    entry = AuditEntry.objects.get(action="account_key.revoked")
    assert (entry.account_id, entry.actor_name) == (site.account_id, "support@example.com")
    assert entry.target == str(key_of(manager))
    # The account's owner sees who did it.
    log = text_of(owner_client(site).get(f"/a/{site.account_id}/audit-log/", follow=True))
    assert "support@example.com" in log
    assert entry.target in log


def test_no_other_permission_opens_the_page(site: Site, manager: ManageClient) -> None:
    key = key_of(manager)
    pages = (LIST, f"{LIST}{key.id}/change/", f"{LIST}{key.id}/history/")
    client = staff_client("view_apikey", "change_apikey", "view_account", "change_account")
    for page in pages:
        assert client.get(page).status_code == 403
    revoke(client, key)
    link = reverse("admin:channels_account_list_account_keys", args=[site.account_id])
    account = f"/admin/channels/account/{site.account_id}/change/"
    assert client.get(link).status_code == 403
    assert link not in text_of(client.get(account))
    # Nor does it open to people who are no staff.
    for page in pages:
        assert owner_client(site).get(page)["Location"].startswith("/admin/login/")
    assert manager.get("channels").status_code == 200


def test_the_accounts_page_leads_to_its_keys(site: Site, manager: ManageClient) -> None:
    client = staff_client("view_account", "view_accountkey")
    link = reverse("admin:channels_account_list_account_keys", args=[site.account_id])
    page = text_of(client.get(f"/admin/channels/account/{site.account_id}/change/"))
    assert link in page
    assert key_of(manager).masked in text_of(client.get(link, follow=True))


def test_an_unknown_key_is_not_there(manager: ManageClient) -> None:
    client = staff_client("change_accountkey")
    assert client.get(f"{LIST}{UNKNOWN}/change/")["Location"] == "/admin/"
    data = {"action": "revoke", "_selected_action": [str(UNKNOWN)]}
    assert client.post(LIST, data, follow=True).status_code == 200
    assert manager.get("channels").status_code == 200

"""Account keys in the console: owners create them after a fresh log-in, see them once, revoke."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from channels import account_keys
from channels.audit import COMMAND_LINE
from channels.models import AccountKey, AuditEntry, LoginSession
from channels.tests.factories import Site
from tests.support.clients import (
    UNKNOWN,
    account_page,
    assert_same_404,
    member_client,
    owner_client,
    staff_guest,
    text_of,
)
from tests.support.manage import ManageClient

pytestmark = pytest.mark.django_db


def form(**more: Any) -> dict[str, Any]:
    return {"key_id": str(uuid.uuid4()), "name": "Script", "days": ""} | more


def create(client: Client, site: Site, **more: Any) -> Any:
    return client.post(account_page(site, "account-keys/new/"), form(**more))


def revoke_url(site: Site, key_id: Any) -> str:
    return account_page(site, f"account-keys/{key_id}/revoke/")


def test_an_owner_creates_a_key_that_is_shown_once(site: Site) -> None:
    client = owner_client(site)
    assert "No account key yet" in text_of(client.get(account_page(site, "account-keys/")))
    made = create(client, site)
    assert made["Cache-Control"] == "no-store"
    (clear,) = re.findall(r"amgai_admin_\w{42}", made.content.decode())
    assert ManageClient(clear).get("channels").status_code == 200
    page = text_of(client.get(account_page(site, "account-keys/")))
    key = AccountKey.objects.get()
    assert key.masked in page
    assert ">Active<" in page
    assert clear not in page
    assert clear[12:] not in str([*AuditEntry.objects.values(), *AccountKey.objects.values()])
    assert clear not in str([one.get_decoded() for one in LoginSession.objects.all()])
    entry = AuditEntry.objects.get(action="account_key.issued")
    assert (entry.target, entry.actor) == (f"Script ({key.masked})", key.created_by)


def test_the_same_form_creates_one_key(site: Site) -> None:
    client, sent = owner_client(site), form()
    assert client.post(account_page(site, "account-keys/new/"), sent).status_code == 200
    answer = client.post(account_page(site, "account-keys/new/"), sent)
    assert answer["Location"] == account_page(site, "account-keys/")
    assert AccountKey.objects.count() == 1


def test_a_key_may_expire(site: Site, clock: Any) -> None:
    create(owner_client(site), site, days="30")
    key = AccountKey.objects.get()
    assert key.expires_at == timezone.now() + timedelta(days=30)
    assert ">Ends<" in text_of(owner_client(site).get(account_page(site, "account-keys/")))
    clock.shift(timedelta(days=30))
    assert ">Ended<" in text_of(owner_client(site).get(account_page(site, "account-keys/")))


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"name": "x" * 121}, {"days": "7"}, {"key_id": "x"}, {"name": "a\0"}]
)
def test_what_is_wrong_is_said_and_no_key_is_created(site: Site, wrong: dict[str, str]) -> None:
    assert create(owner_client(site), site, **wrong).status_code == 422
    assert not AccountKey.objects.exists()


def test_too_many_keys_are_refused_in_words(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_keys, "MOST_KEYS", 1)
    client = owner_client(site)
    create(client, site)
    refused = create(client, site)
    assert refused.status_code == 422
    assert "at most 1 working account keys" in text_of(refused)


def test_a_revoked_key_stops_at_once_and_revoking_again_changes_nothing(site: Site) -> None:
    client = owner_client(site)
    (clear,) = re.findall(r"amgai_admin_\w{42}", create(client, site).content.decode())
    url = revoke_url(site, AccountKey.objects.get().id)
    for _ in range(2):
        assert client.post(url)["Location"] == account_page(site, "account-keys/")
    assert ManageClient(clear).get("channels").status_code == 401
    assert AuditEntry.objects.filter(action="account_key.revoked").count() == 1
    assert ">Ended<" in text_of(client.get(account_page(site, "account-keys/")))


@pytest.mark.parametrize("who", ["editor", "viewer", "staff"])
def test_only_owners_see_and_change_account_keys(site: Site, who: str) -> None:
    issued = account_keys.issue_account_key(
        account=site.channel.account, name="s", actor=COMMAND_LINE
    )
    client = staff_guest(site) if who == "staff" else member_client(site, who)
    for answer in (
        client.get(account_page(site, "account-keys/")),
        create(client, site),
        client.post(revoke_url(site, issued.record.id)),
    ):
        assert answer.status_code == 403
        assert issued.record.masked not in answer.content.decode()
    assert "account-keys" not in client.get(account_page(site)).content.decode()
    assert AccountKey.objects.filter(revoked_at=None).count() == 1


def test_a_strangers_account_keys_are_unknown(site: Site, stranger: Site) -> None:
    theirs = account_keys.issue_account_key(
        account=site.channel.account, name="s", actor=COMMAND_LINE
    ).record
    client = owner_client(stranger)
    assert_same_404(
        client, "", revoke_url(stranger, theirs.id), revoke_url(stranger, UNKNOWN), x="1"
    )
    for answer in (client.get(account_page(site, "account-keys/")), create(client, site)):
        assert answer.status_code == 404
    assert AccountKey.objects.filter(revoked_at=None).count() == 1


def test_an_old_log_in_must_be_renewed_first(site: Site) -> None:
    client = owner_client(site, seconds_ago=15 * 60 + 1)
    assert client.get(account_page(site, "account-keys/")).status_code == 200
    assert "?next=" in create(client, site)["Location"]
    assert not AccountKey.objects.exists()

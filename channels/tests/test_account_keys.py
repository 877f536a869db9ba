"""Account keys: created once and revoked once."""

from __future__ import annotations

import uuid

import pytest

from channels import account_keys
from channels.audit import COMMAND_LINE
from channels.errors import MadeBefore
from channels.models import AccountKey, AuditEntry
from channels.tests.factories import Site

pytestmark = pytest.mark.django_db


def issue(site: Site, key_id: uuid.UUID) -> AccountKey:
    account = site.channel.account
    issued = account_keys.issue_account_key(
        account=account, name="CI", key_id=key_id, actor=COMMAND_LINE
    )
    return issued.record


def test_the_same_form_makes_one_key(site: Site) -> None:
    key_id = uuid.uuid4()
    issue(site, key_id)
    with pytest.raises(MadeBefore):
        issue(site, key_id)
    assert AccountKey.objects.count() == 1
    assert AuditEntry.objects.filter(action="account_key.issued").count() == 1


def test_a_key_is_revoked_once(site: Site) -> None:
    key = issue(site, uuid.uuid4())
    for _ in range(2):
        account_keys.revoke_account_key(account_key=key, actor=COMMAND_LINE)
    assert AuditEntry.objects.filter(action="account_key.revoked").count() == 1

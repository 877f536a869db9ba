"""/api/manage/ and the addresses of keys: what excludes the latest caller must be confirmed."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from channels.models import ApiKey, AuditEntry, KeyUse
from channels.tests.factories import Site
from tests.support.manage import ManageClient, manager_of

pytestmark = pytest.mark.django_db
CALLER = "203.0.113.9"
ELSEWHERE = {"allowed_addresses": ["198.51.100.0/24"]}


@pytest.fixture
def manager(site: Site) -> ManageClient:
    return manager_of(site)


@pytest.fixture
def key(site: Site) -> ApiKey:
    """A key that was just used from CALLER."""
    found: ApiKey = site.channel.api_keys.filter(mode="live")[0]
    KeyUse.objects.create(key=found, last_used_at=timezone.now(), address=CALLER)
    return found


@pytest.fixture
def path(site: Site, key: ApiKey) -> str:
    return f"channels/{site.channel.id}/keys/{key.id}"


def test_ranges_that_exclude_the_latest_caller_must_be_confirmed(
    manager: ManageClient, path: str, clock: Any
) -> None:
    KeyUse.objects.update(last_used_at=timezone.now())
    before = manager.get(path).json()
    refused = manager.patch(path, ELSEWHERE)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    (member,) = refused.json()["fields"]
    assert member == "exclude_latest_caller"
    sentence = refused.json()["fields"][member]
    assert CALLER in sentence
    assert "2026-04-05T12:00:00Z" in sentence
    assert manager.get(path).json() == before
    assert not AuditEntry.objects.filter(action="key.updated").exists()
    # A refusal is no confirmation.
    assert manager.patch(path, ELSEWHERE | {"exclude_latest_caller": False}).status_code == 400
    saved = manager.patch(path, ELSEWHERE | {"exclude_latest_caller": True})
    assert saved.status_code == 200, saved.content
    assert saved.json() == before | ELSEWHERE
    assert AuditEntry.objects.filter(action="key.updated").count() == 1


def test_what_excludes_nobody_needs_no_confirmation(manager: ManageClient, path: str) -> None:
    wide = {"allowed_addresses": ["203.0.113.0/24"]}
    assert manager.patch(path, wide).status_code == 200
    assert manager.patch(path, {"name": "Checkout"}).status_code == 200
    assert manager.patch(path, {"allowed_addresses": []}).status_code == 200
    KeyUse.objects.all().delete()
    assert manager.patch(path, ELSEWHERE).status_code == 200


@pytest.mark.parametrize("value", ["yes", 1, []])
def test_a_confirmation_is_true_or_false(manager: ManageClient, path: str, value: Any) -> None:
    refused = manager.patch(path, ELSEWHERE | {"exclude_latest_caller": value})
    assert list(refused.json()["fields"]) == ["exclude_latest_caller"]

"""/api/manage/ with Idempotency-Key: each POST, sent twice, changes things once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.utils import timezone

from channels import api_keys
from channels.models import ApiKey, AuditEntry, Channel
from channels.tests.factories import Site
from conversations.chat import idempotency
from conversations.errors import RequestInProgress
from conversations.models import ManagementRecord
from conversations.tests.test_manage_access import BODY, OPERATIONS, ids_of
from tests.support.clients import ApiClient
from tests.support.manage import ManageClient, manager_of
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db
POSTS = [path for method, path in OPERATIONS if method == "POST"]


@pytest.fixture
def manager(site: Site) -> ManageClient:
    return manager_of(site)


def code(response: Any) -> str:
    return str(response.json()["code"])


@pytest.mark.parametrize("path", POSTS)
def test_every_call_changes_things_once(site: Site, manager: ManageClient, path: str) -> None:
    filled = path.format(**ids_of(site))
    first = manager.post(filled, BODY, once="k")
    assert first.status_code in (200, 201), first.content
    assert "Idempotency-Replayed" not in first
    entries = AuditEntry.objects.exclude(action="key.revealed").count()
    for slash in ("", "/"):
        again = manager.post(filled + slash, BODY, once="k")
        assert again.status_code == first.status_code
        assert again.content == first.content
        assert again["Idempotency-Replayed"] == "true"
        assert "X-RateLimit-Remaining" in again
    assert AuditEntry.objects.exclude(action="key.revealed").count() == entries


def test_another_body_or_path_is_refused(site: Site, manager: ManageClient) -> None:
    assert manager.post("channels", {"name": "a"}, once="k").status_code == 201
    other = manager.post("channels", {"name": "b"}, once="k")
    assert (other.status_code, code(other)) == (422, "idempotency_key_reused")
    elsewhere = manager.post(f"channels/{site.channel.id}/keys", {"name": "a"}, once="k")
    assert (elsewhere.status_code, code(elsewhere)) == (422, "idempotency_key_reused")
    assert Channel.objects.count() == 2


def test_while_the_first_runs_the_second_is_told_to_wait(site: Site, manager: ManageClient) -> None:
    body = b'{"name": "a"}'
    key = idempotency.Key("k", idempotency.fingerprint(body, path="/api/manage/channels"))
    idempotency.claim_for_account(site.account_id, key)
    waiting = manager.post("channels", body.decode(), once="k")
    assert (waiting.status_code, code(waiting)) == (409, "request_in_progress")
    assert int(waiting["Retry-After"]) > 0
    assert Channel.objects.count() == 1


def test_a_claim_whose_process_died_is_taken_over(
    site: Site, manager: ManageClient, clock: Any
) -> None:
    key = idempotency.Key("k", "f")
    dead = idempotency.claim_for_account(site.account_id, key)
    clock.shift(idempotency.MANAGEMENT_CLAIM_LASTS + timedelta(seconds=1))
    assert manager.post("channels", {"name": "a"}, once="k").status_code == 201
    # If it was only slow, it does nothing.
    with pytest.raises(RequestInProgress):
        idempotency.complete(dead, b"{}")
    idempotency.free(dead)
    assert manager.post("channels", {"name": "a"}, once="k")["Idempotency-Replayed"] == "true"


def test_replays_for_24_hours(manager: ManageClient, clock: Any) -> None:
    manager.post("channels", {"name": "a"}, once="k")
    clock.shift(24 * 3600 - 1)
    idempotency.delete_expired(now=timezone.now())
    assert "Idempotency-Replayed" in manager.post("channels", {"name": "a"}, once="k")
    clock.shift(2)
    assert "Idempotency-Replayed" not in manager.post("channels", {"name": "a"}, once="k")
    clock.shift(25 * 3600)
    assert idempotency.delete_expired(now=timezone.now()) == 1
    assert not ManagementRecord.objects.exists()


def test_a_failure_frees_the_key_and_changes_nothing(
    site: Site, manager: ManageClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "complete", fail)
        assert manager.post("channels", {"name": "a"}, once="k").status_code == 500
    assert not ManagementRecord.objects.exists()
    assert Channel.objects.count() == 1
    assert manager.post("channels", {"name": "a"}, once="k").status_code == 201


def test_accounts_share_no_keys_but_an_accounts_programs_do(site: Site, stranger: Site) -> None:
    first, second, other = manager_of(site), manager_of(site), manager_of(stranger)
    made = first.post("channels", {"name": "a"}, once="k")
    assert second.post("channels", {"name": "a"}, once="k").content == made.content
    assert other.post("channels", {"name": "a"}, once="k").content != made.content


@pytest.mark.parametrize("key", ["x" * 256, "a\x01b"])
def test_a_wrong_idempotency_key_is_named(manager: ManageClient, key: str) -> None:
    answer = manager.post("channels", {"name": "a"}, once=key)
    assert list(answer.json()["fields"]) == ["Idempotency-Key"]


# --- Keys -----------------------------------------------------------------------------------------


def test_a_stored_answer_holds_no_key(site: Site, manager: ManageClient) -> None:
    path = f"channels/{site.channel.id}/keys"
    made = manager.post(path, once="make")
    rotated = manager.post(f"{path}/{made.json()['id']}/rotate", once="rotate")
    clear = [answer.json()["key"] for answer in (made, rotated)]
    stored = str(list(ManagementRecord.objects.values()))
    assert "key_id" in stored
    assert not any(one in stored or one[6:] in stored for one in clear)
    assert not any(one in str(list(AuditEntry.objects.values())) for one in clear)
    replays = [
        manager.post(path, once="make"),
        manager.post(f"{path}/{made.json()['id']}/rotate", once="rotate"),
    ]
    assert [replay.json()["key"] for replay in replays] == clear
    assert AuditEntry.objects.filter(action="key.revealed").count() == 2
    assert ApiKey.objects.count() == 4


def test_a_replay_shows_no_key_that_has_ended(site: Site, manager: ManageClient) -> None:
    path = f"channels/{site.channel.id}/keys"
    made = manager.post(path, once="k").json()
    manager.post(f"{path}/{made['id']}/revoke")
    assert manager.post(path, once="k").json() == made | {"key": None}
    assert not AuditEntry.objects.filter(action="key.revealed").exists()


def test_a_replay_after_the_channel_is_gone_shows_no_key(site: Site, manager: ManageClient) -> None:
    channel = manager.post("channels", {"name": "a"}, once="c").json()
    manager.post(f"channels/{channel['id']}/keys", once="k")
    manager.delete(f"channels/{channel['id']}")
    assert manager.post(f"channels/{channel['id']}/keys", once="k").status_code == 404
    assert manager.post("channels", {"name": "a"}, once="c").json() == channel


def test_another_accounts_record_never_shows_a_key(site: Site, stranger: Site) -> None:
    """Even if a stored answer named a key of another account."""
    client = manager_of(stranger)
    client.post(f"channels/{stranger.channel.id}/keys", once="k")
    record = ManagementRecord.objects.get()
    key = site.channel.api_keys.filter(mode="live")[0]
    body = orjson.loads(record.body or "") | {"key_id": str(key.id)}
    ManagementRecord.objects.update(body=orjson.dumps(body).decode())
    assert client.post(f"channels/{stranger.channel.id}/keys", once="k").json()["key"] is None


# --- At once --------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_many_at_once_create_one_channel_and_one_key(site: Site) -> None:
    key = manager_of(site).key

    def create(path: str) -> list[Any]:
        answers = run_in_threads(lambda _: ManageClient(key).post(path, {"name": "a"}, once="k"), 8)
        assert {answer.status_code for answer in answers} <= {201, 409}
        made = [answer for answer in answers if answer.status_code == 201]
        assert len({answer.content for answer in made}) == 1
        return made

    assert create("channels")
    assert Channel.objects.count() == 2
    ManagementRecord.objects.all().delete()
    made = create(f"channels/{site.channel.id}/keys")
    assert ApiKey.objects.count() == 3
    assert ApiClient(made[0].json()["key"]).get("/api/key").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_many_at_once_take_an_external_id_once(site: Site) -> None:
    key = manager_of(site).key
    body = {"name": "a", "external_id": "1"}
    answers = run_in_threads(lambda _: ManageClient(key).post("channels", body), 8)
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 7
    assert Channel.objects.filter(external_id="1").count() == 1


@pytest.mark.django_db(transaction=True)
def test_many_rotations_at_once_create_one_successor(site: Site) -> None:
    key = manager_of(site).key
    old = site.channel.api_keys.filter(mode="live")[0]
    path = f"channels/{site.channel.id}/keys/{old.id}/rotate"
    answers = run_in_threads(lambda _: ManageClient(key).post(path), 6)
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 5
    assert ApiKey.objects.filter(channel=site.channel, mode="live").count() == 2
    assert api_keys.reveal_api_key(old) == site.api_key

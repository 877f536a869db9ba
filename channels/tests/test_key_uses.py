"""When and from where keys are used: noted in memory, written beside requests, added up."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels import key_uses
from channels.models import ApiKey, Channel, KeyHour, KeyUse
from channels.tests.factories import Site, make_site, note_use
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

META = {"REMOTE_ADDR": "203.0.113.7", "HTTP_USER_AGENT": "curl/8.0"}


def live(site: Site) -> ApiKey:
    return site.channel.api_keys.get(mode="live")


def count_of(key: ApiKey) -> int:
    return sum(KeyHour.objects.filter(key=key).values_list("count", flat=True))


def test_every_request_with_a_key_is_noted_and_written_later(
    site: Site, provider: FakeProvider, clock: Any
) -> None:
    api = ApiClient(site.api_key)
    api.chat()
    for path in ("/api/key", "/api/models", "/v1/models", "/api/history?session_id=s1"):
        api.get(path, **{"User-Agent": "shop/1.0"})
    assert not KeyUse.objects.exists()
    key_uses.write_all()
    use = KeyUse.objects.get()
    assert use.key == live(site)
    assert (use.address, use.user_agent) == ("127.0.0.1", "shop/1.0")
    assert use.last_used_at == timezone.now()
    assert count_of(live(site)) == 5
    assert KeyHour.objects.get().starts_at == datetime(2026, 4, 5, 12, tzinfo=UTC)


def test_a_request_beyond_the_minute_is_a_use_too_and_one_with_a_bad_key_is_none(
    site: Site, provider: FakeProvider
) -> None:
    site.channel.requests_per_minute = 1
    site.channel.save()
    statuses = [ApiClient(site.api_key).chat().status_code for _ in range(2)]
    assert statuses == [200, 429]
    ApiClient("amgai_nonsense").chat()
    key_uses.write_all()
    hour = KeyHour.objects.get()
    assert (hour.count, hour.refused_count) == (2, 1)


def test_refused_requests_are_told_by_channel_for_a_day(
    site: Site, stranger: Site, provider: FakeProvider, clock: Any
) -> None:
    other = make_site(name="Quiet")
    for one, tries in ((site, 4), (other, 2), (stranger, 3)):
        Channel.objects.filter(id=one.channel.id).update(requests_per_minute=1)
        for key in (one.api_key, one.test_key):
            for _ in range(tries):
                ApiClient(key).chat()
    key_uses.write_all()
    account, now = site.channel.account, timezone.now()
    found = key_uses.list_refused(account, now=now, most=5)
    assert [(one.name, one.refused) for one in found] == [
        (site.channel.name, 3), ("Quiet", 1)
    ]  # fmt: skip
    assert len(key_uses.list_refused(account, now=now, most=1)) == 1
    assert key_uses.list_refused(account, now=now + timedelta(days=1), most=5) == []


def test_noting_asks_the_database_nothing(site: Site) -> None:
    with CaptureQueriesContext(connection) as captured:
        note_use(live(site).id, META)
    assert len(captured) == 1  # the test's own look-up


@pytest.mark.parametrize("has_writer", [False, True])
def test_the_first_request_starts_the_thread(
    site: Site, monkeypatch: pytest.MonkeyPatch, has_writer: bool
) -> None:
    starts: list[bool] = []
    monkeypatch.setattr(key_uses, "start_writer", lambda: starts.append(True))
    monkeypatch.setattr(key_uses, "has_writer", has_writer)
    ApiClient(site.api_key).get("/api/key")
    assert bool(starts) is not has_writer


def test_a_key_is_written_soon_after_its_first_use_and_then_once_a_minute(
    site: Site, clock: Any
) -> None:
    key = live(site)
    for seconds, expected in ((0, 1), (5, 1), (30, 1), (24, 1), (1, 5), (61, 6)):
        clock.shift(seconds)
        note_use(key.id, META)
        key_uses.write(now=time.time())
        assert count_of(key) == expected, seconds


def test_several_processes_add_up(site: Site) -> None:
    key = live(site)
    for _ in range(3):
        note_use(key.id, META)
        key_uses.write_all()
    assert count_of(key) == 3


@pytest.mark.django_db(transaction=True)
def test_processes_that_write_at_once_lose_nothing(site: Site) -> None:
    keys = list(ApiKey.objects.all())
    now = time.time()

    def write(_: int) -> None:
        for key in keys:
            taken = key_uses._Note(Counter({int(now) // 3600: 5}), used_at=now, peer="203.0.113.7")
            key_uses._write_one(key.id, taken)

    run_in_threads(write, 6)
    assert [count_of(key) for key in keys] == [30, 30]


def test_hours_are_counted_apart_and_summed_for_the_day_and_the_week(
    site: Site, clock: Any
) -> None:
    key = live(site)
    for hours in (0, 24, 5 * 24, 24):
        clock.shift(timedelta(hours=hours))
        note_use(key.id, META)
    clock.shift(timedelta(hours=1))
    note_use(key.id, META)
    key_uses.write_all()
    use = key_uses.list_uses([key.id], now=timezone.now())[key.id]
    assert (use.in_day, use.in_week) == (2, 4)
    assert use.last
    assert use.last.last_used_at == timezone.now()
    unused = uuid.uuid4()
    assert key_uses.list_uses([unused], now=timezone.now())[unused] == (
        key_uses.UseOfKey(None, 0, 0)
    )


def test_old_hours_are_forgotten_and_the_last_use_is_not(site: Site, clock: Any) -> None:
    note_use(live(site).id, META)
    key_uses.write_all()
    clock.shift(timedelta(days=7))
    assert key_uses.forget_old_hours() == 0
    clock.shift(timedelta(days=2))
    assert key_uses.forget_old_hours() == 1
    assert KeyUse.objects.exists()


def test_an_older_use_replaces_no_newer_one_but_one_from_a_wrong_clock(
    site: Site, clock: Any
) -> None:
    key, now = live(site), timezone.now()
    for stored, expected in (
        (now + timedelta(seconds=30), "192.0.2.1"),
        (now + timedelta(hours=3), "203.0.113.7"),
    ):
        KeyUse.objects.update_or_create(
            key=key, defaults={"last_used_at": stored, "address": "192.0.2.1"}
        )
        note_use(key.id, META)
        key_uses.write_all()
        assert KeyUse.objects.get().address == expected


def test_a_key_that_is_gone_is_skipped(site: Site) -> None:
    note_use(uuid.uuid4(), META)
    note_use(live(site).id, META)
    key_uses.write_all()
    assert KeyUse.objects.get().key == live(site)
    assert not key_uses._notes


def test_what_could_not_be_written_is_written_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = live(site)
    note_use(key.id, META)

    def away(*_: Any) -> None:
        note_use(key.id, META)  # used while it was being written
        raise DatabaseError

    with monkeypatch.context() as patch:
        patch.setattr(key_uses, "_write_one", away)
        with pytest.raises(DatabaseError):
            key_uses.write(now=time.time())
    key_uses.write_all()
    assert count_of(key) == 2


def test_memory_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_uses, "MOST_KEYS", 3)
    for _ in range(5):
        note_use(uuid.uuid4(), META)
    key_uses._take(time.time())
    assert len(key_uses._notes) == 3
    huge = {"User-Agent": "x" * 60_000, "X-Forwarded-For": "y" * 60_000}
    ApiClient(site.api_key).get("/api/key", **huge)
    *_, forwarded, user_agent, _is_admitted = key_uses.seen[-1]
    assert (len(forwarded), len(user_agent)) == (1_000, 200)


def test_hostile_headers_are_stored_as_a_page_can_show_them(site: Site, settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    meta = {
        "REMOTE_ADDR": "10.0.0.1",
        "HTTP_X_FORWARDED_FOR": f"{'x' * 5_000}, [2001:db8::7]:443",
        "HTTP_USER_AGENT": "a\x1b[31m\x00\u202eb",
    }
    note_use(live(site).id, meta)
    key_uses.write_all()
    use = KeyUse.objects.get()
    assert (use.address, use.user_agent) == ("2001:db8::7", "a[31mb")


def test_one_busy_key_hides_no_use_of_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_uses, "MOST_SEEN", 5)
    other = make_site(name="Busy")
    ApiClient(site.api_key).get("/api/key")
    for _ in range(12):
        ApiClient(other.api_key).get("/api/key")
    assert len(key_uses.seen) <= 5
    key_uses.write_all()
    assert (count_of(live(site)), count_of(live(other))) == (1, 12)

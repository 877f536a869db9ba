"""The daily digest: an account's yesterday, to each owner who chose it, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail

from channels import person_mails
from channels.models import Account, Channel, Membership, PersonMail, User
from channels.tasks import send_person_mails
from channels.tests.factories import Site, make_site
from conversations import digests
from conversations.tasks import write_digests
from conversations.tests.test_rollups import add_failure, add_reply
from tests.support.clients import log_in
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

MORNING = datetime(2026, 6, 10, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def subscribed(site: Site) -> Site:
    User.objects.update(mails_digests=True)
    return site


def run() -> list[Any]:
    mail.outbox.clear()
    write_digests()
    send_person_mails()
    return list(mail.outbox)


def test_the_digest_tells_yesterday(subscribed: Site, clock: Any) -> None:
    clock.move_to(MORNING)
    yesterday = MORNING - timedelta(hours=20)
    for _ in range(3):
        add_reply(subscribed, yesterday, charged_microcredits=1_500_000)
    add_failure(subscribed, yesterday)
    add_reply(subscribed, MORNING - HOUR, charged_microcredits=1)  # today
    add_reply(subscribed, MORNING - timedelta(days=2), charged_microcredits=1)
    (one,) = run()
    assert one.to == ["owner@example.com"]
    assert one.subject.startswith("Daily digest: ")
    assert "9 Jun 2026: requests 4, errors 1 (25.0 %), credits charged 4.5" in one.body
    assert "Balance now: 100 credits available" in one.body
    assert "Nothing needs attention" in one.body
    assert f"/a/{subscribed.account_id}/usage/" in one.body
    assert run() == [], "once"


def test_it_comes_each_morning_and_not_before(subscribed: Site, clock: Any) -> None:
    clock.move_to(MORNING)
    assert len(run()) == 1
    clock.move_to(MORNING + timedelta(hours=23, minutes=59))
    assert run() == []
    clock.move_to(MORNING + timedelta(days=1))
    (one,) = run()
    assert "10 Jun 2026" in one.body
    clock.move_to(MORNING + timedelta(days=5, hours=9))
    (one,) = run()
    assert "14 Jun 2026" in one.body, "days without a worker are left out"


@pytest.mark.parametrize(
    ("zone", "due"),
    [
        ("Asia/Tokyo", datetime(2026, 6, 9, 21, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 6, 10, 10, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2026, 6, 10, 0, 15, tzinfo=UTC)),
    ],
)
def test_yesterday_is_the_accounts_own_day(
    subscribed: Site, clock: Any, zone: str, due: datetime
) -> None:
    Account.objects.update(time_zone=zone)
    begins = due - digests.TOLD_AFTER - timedelta(days=1)
    clock.move_to(due - timedelta(minutes=1))
    run()  # the day before
    add_reply(subscribed, begins)
    add_reply(subscribed, begins + timedelta(days=1) - timedelta(microseconds=1))
    add_reply(subscribed, begins - timedelta(microseconds=1))
    add_reply(subscribed, begins + timedelta(days=1))
    clock.move_to(due)
    (one,) = run()
    assert f"9 Jun 2026 in {zone}: requests 2," in one.body


def test_a_change_of_zone_tells_no_day_twice(subscribed: Site, clock: Any) -> None:
    clock.move_to(MORNING)
    Account.objects.update(time_zone="Pacific/Kiritimati")
    assert len(run()) == 1
    for zone in ("Pacific/Pago_Pago", "UTC", "Pacific/Kiritimati"):
        Account.objects.update(time_zone=zone)
        assert run() == [], zone


def test_a_clock_that_ran_ahead_stops_no_digest(subscribed: Site, clock: Any) -> None:
    clock.move_to(MORNING + timedelta(days=30))
    assert len(run()) == 1
    clock.move_to(MORNING)
    assert len(run()) == 1
    assert run() == []


def test_what_needs_attention_is_said(subscribed: Site, clock: Any) -> None:
    clock.move_to(MORNING)
    Account.objects.update(is_enabled=False)
    Channel.objects.update(is_enabled=False)
    (one,) = run()
    assert "Needs attention: the account is disabled" in one.body
    assert "Needs attention: channels that are switched off: 1" in one.body
    assert "Nothing needs" not in one.body


def test_only_owners_who_chose_it_get_it(site: Site, clock: Any) -> None:
    clock.move_to(MORNING)
    assert run() == [], "off by default"
    editor = User.objects.create_user("editor@example.com", mails_digests=True)
    gone = User.objects.create_user("gone@example.com", mails_digests=True, is_active=False)
    second = User.objects.create_user("second@example.com")
    for user, role in ((editor, "editor"), (gone, "owner"), (second, "owner")):
        Membership.objects.create(account_id=site.account_id, user=user, role=role)
    log_in(second).post("/accounts/mails/", {"mails_digests": "on"})
    assert [one.to for one in run()] == [["second@example.com"]]


def test_a_deleted_account_tells_nobody(subscribed: Site, clock: Any) -> None:
    clock.move_to(MORNING)
    Account.objects.update(deleted_at=MORNING)
    assert run() == []


def test_an_owner_of_many_accounts_gets_them_all(db: None, clock: Any) -> None:
    clock.move_to(MORNING)
    user = User.objects.create_user("many@example.com", mails_digests=True)
    for number in range(person_mails.MAILS_A_DAY + 2):
        account = Account.objects.create(name=f"Account {number}")
        Membership.objects.create(account=account, user=user, role="owner")
    assert len(run()) == person_mails.MAILS_A_DAY + 2


def test_a_lost_mail_server_delays_it(
    subscribed: Site, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.move_to(MORNING)

    def refuse(*args: Any, **options: Any) -> int:
        raise ConnectionRefusedError("no")

    with monkeypatch.context() as down:
        down.setattr(person_mails, "send_mail", refuse)
        assert run() == []
    (one,) = run()
    assert "9 Jun 2026" in one.body


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_send_each_digest_once() -> None:
    for number in range(3):
        make_site(owner=f"owner{number}@example.com")
    User.objects.update(mails_digests=True)
    assert sum(run_in_threads(lambda _: digests.write_digests(now=MORNING), 4)) == 3
    PersonMail.objects.update(created_at=MORNING)
    assert sum(run_in_threads(lambda _: person_mails.send_due(now=MORNING), 4)) == 3
    assert len(mail.outbox) == 3
    assert all("Nothing needs attention" in one.body for one in mail.outbox), "in one piece"
    assert not PersonMail.objects.exists()

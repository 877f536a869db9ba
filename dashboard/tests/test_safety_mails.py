"""E-mails about new keys, new members, and log-ins from new devices."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from channels import account_keys, api_keys, person_mails, team
from channels.audit import COMMAND_LINE, Actor
from channels.errors import MadeBefore
from channels.models import Account, AuditEntry, KnownDevice, Membership, PersonMail, User
from channels.tasks import send_person_mails
from channels.tests.factories import Site
from gateway.tasks import clear_log_ins
from tests.support.clients import log_in
from tests.support.manage import manager_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

PASSWORD = "correct-horse-battery"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1"
PAGE = "/accounts/mails/"


def the_owner() -> User:
    return User.objects.get(email="owner@example.com")


def actor_of(user: User) -> Actor:
    return Actor(user.email, user, "192.0.2.9")


def add_member(site: Site, email: str, role: str) -> User:
    user = User.objects.create_user(email, PASSWORD)
    Membership.objects.create(account_id=site.account_id, user=user, role=role)
    return user


def sent() -> list[Any]:
    """Return the e-mails of one run of the task."""
    mail.outbox.clear()
    send_person_mails()
    return list(mail.outbox)


# --- Keys and members -----------------------------------------------------------------------------


def test_owners_and_the_maker_hear_of_a_new_key_but_never_the_key(site: Site) -> None:
    editor = add_member(site, "ed@example.com", "editor")
    add_member(site, "other-editor@example.com", "editor")
    add_member(site, "viewer@example.com", "viewer")
    issued = api_keys.issue_api_key(channel=site.channel, is_test=False, actor=actor_of(editor))
    found = sent()
    assert sorted(one.to[0] for one in found) == ["ed@example.com", "owner@example.com"]
    for one in found:
        assert issued.record.masked in one.body
        assert "created by ed@example.com from 192.0.2.9" in one.body
        assert f"/a/{site.account_id}/audit-log/" in one.body
        assert issued.clear not in one.subject + one.body
    assert not sent(), "once"


def test_a_rotation_and_an_account_key_are_new_keys(site: Site) -> None:
    owner = the_owner()
    key = api_keys.issue_api_key(channel=site.channel, is_test=True, actor=COMMAND_LINE).record
    rotated = api_keys.rotate_api_key(api_key=key, overlap=timedelta(0), actor=actor_of(owner))
    issued = account_keys.issue_account_key(
        account=site.channel.account, name="Script", actor=actor_of(owner)
    )
    (one,) = sent()
    for masked in (rotated.record.masked, issued.record.masked):
        assert masked in one.body
    assert rotated.clear not in one.body
    assert issued.clear not in one.body


def test_a_program_that_creates_keys_is_named(site: Site) -> None:
    manager = manager_of(site)
    created = manager.post(f"channels/{site.channel.id}/keys", {"mode": "test"})
    assert created.status_code == 201, created.content
    (one,) = sent()
    assert "created by API key amgai_admin_…" in one.body


def test_what_the_operator_does_at_the_server_is_not_mailed(site: Site) -> None:
    api_keys.issue_api_key(channel=site.channel, is_test=False, actor=COMMAND_LINE)
    assert not PersonMail.objects.exists()


def test_a_key_that_could_not_be_made_is_not_mailed(site: Site) -> None:
    actor = actor_of(the_owner())
    first = api_keys.issue_api_key(channel=site.channel, is_test=True, actor=actor)
    with pytest.raises(MadeBefore):
        api_keys.issue_api_key(
            channel=site.channel, is_test=True, key_id=first.record.id, actor=actor
        )
    assert PersonMail.objects.count() == 1


def test_the_other_owners_hear_of_a_new_member(site: Site, stranger: Site) -> None:
    owner = the_owner()
    account = Account.objects.get(id=site.account_id)
    invitation = team.invite(
        account=account, email="new@example.com", role=team.Role.OWNER, actor=actor_of(owner)
    )
    joining = User.objects.create_user("new@example.com")
    for _ in range(2):
        team.accept_invitation(
            secret_digests=team.digests_of(invitation.secret),
            user=joining,
            actor=actor_of(joining),
        )
    (one,) = sent()
    assert one.to == [owner.email]
    assert "new@example.com from 192.0.2.9, as owner" in one.body
    assert f"/a/{site.account_id}/team/" in one.body


def test_names_break_no_header_and_no_line(site: Site) -> None:
    Account.objects.filter(id=site.account_id).update(name="Two\r\nBcc: x@example.com")
    site.channel.name = "Shop\nTo: y@example.com"
    api_keys.issue_api_key(channel=site.channel, is_test=True, actor=actor_of(the_owner()))
    (one,) = sent()
    assert one.subject == "New key: Two Bcc: x@example.com"
    assert "Shop To: y@example.com" in one.body


# --- The queue ------------------------------------------------------------------------------------


def make_keys(site: Site, count: int) -> None:
    for number in range(count):
        person_mails.tell_of_key(
            account_id=site.account_id, key=f"key {number}", actor=actor_of(the_owner())
        )


def test_many_keys_are_one_mail_that_counts_the_rest(site: Site) -> None:
    make_keys(site, 25)
    (one,) = sent()
    assert one.body.count("- ") == 21
    assert "and 5 more" in one.body


def test_a_mail_server_that_is_down_delays_the_mail(site: Site, monkeypatch: Any) -> None:
    make_keys(site, 2)

    def refuse(*args: Any, **options: Any) -> int:
        raise ConnectionRefusedError("no")

    with monkeypatch.context() as down:
        down.setattr(person_mails, "send_mail", refuse)
        for _ in range(person_mails.MAILS_A_DAY + 1):
            assert send_person_mails() == 0
    (one,) = sent()
    assert "key 0" in one.body
    assert "key 1" in one.body


def test_a_person_gets_so_many_a_day_and_old_news_is_dropped(site: Site, clock: Any) -> None:
    counts = []
    for _ in range(person_mails.MAILS_A_DAY + 2):
        make_keys(site, 1)
        counts.append(len(sent()))
    assert sum(counts) == person_mails.MAILS_A_DAY
    clock.shift(timedelta(days=1))
    make_keys(site, 1)
    assert len(sent()) == 1
    make_keys(site, 1)
    clock.shift(timedelta(days=3))
    assert not sent()
    assert not PersonMail.objects.exists()


def test_the_queue_takes_few_statements_however_many_owners(
    site: Site, django_assert_num_queries: Any
) -> None:
    for number in range(10):
        add_member(site, f"owner{number}@example.com", "owner")
    actor = actor_of(the_owner())
    with django_assert_num_queries(2):
        person_mails.tell_of_key(account_id=site.account_id, key="k", actor=actor)
    assert PersonMail.objects.count() == 11


# --- Devices --------------------------------------------------------------------------------------


@pytest.fixture
def anna(clock: Any) -> User:
    return User.objects.create_user("anna@example.com", PASSWORD)


def enter(user: User, user_agent: str = FIREFOX, address: str = "192.0.2.1") -> Client:
    client = Client(headers={"User-Agent": user_agent}, REMOTE_ADDR=address)
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    assert "_auth_user_id" in client.session
    return client


def test_a_new_browser_or_network_is_told_and_a_known_one_is_not(anna: User) -> None:
    enter(anna)
    assert not sent(), "the first log-in of all"
    enter(anna)
    assert not sent()
    enter(anna, IPHONE)
    (one,) = sent()
    assert (one.to, one.subject.partition(":")[0]) == ([anna.email], "Log-in from a new device")
    assert "Safari on iPhone, from 192.0.2.1" in one.body
    assert "/accounts/sessions/" in one.body
    enter(anna, IPHONE)
    assert not sent()
    enter(anna, FIREFOX, "203.0.113.5")
    assert "Firefox on Linux, from 203.0.113.5" in sent()[0].body


def test_an_update_of_the_browser_and_another_address_at_home_are_no_news(anna: User) -> None:
    enter(anna, FIREFOX, "2001:db8:1:2::3")
    enter(anna, FIREFOX.replace("140.0", "141.0"), "2001:db8:1:2::4")
    assert not sent()
    assert KnownDevice.objects.count() == 1


def test_another_persons_device_is_new_to_anna(anna: User) -> None:
    enter(anna)
    enter(User.objects.create_user("bob@example.com", PASSWORD), IPHONE)
    enter(anna, IPHONE)
    assert [one.to for one in sent()] == [[anna.email]]


def test_a_device_is_forgotten_after_90_days_without_a_log_in(anna: User, clock: Any) -> None:
    enter(anna)
    clock.shift(timedelta(days=89))
    enter(anna)
    clock.shift(timedelta(days=89))
    enter(anna)
    assert not sent()
    clock.shift(timedelta(days=91))
    enter(anna)
    assert len(sent()) == 1, "the person is no longer new"
    clock.shift(timedelta(days=91))
    clear_log_ins()
    assert not KnownDevice.objects.exists()


def test_neither_address_nor_browser_is_stored(anna: User) -> None:
    enter(anna)
    (row,) = KnownDevice.objects.values()
    assert re.fullmatch("[0-9a-f]{64}", row["digest"])
    assert set(row) == {"id", "user_id", "digest", "last_login_at"}


def test_a_wrong_password_makes_no_device_known(anna: User) -> None:
    enter(anna)
    client = Client(headers={"User-Agent": IPHONE}, REMOTE_ADDR="203.0.113.5")
    client.post("/accounts/login/", {"login": anna.email, "password": "wrong"})
    assert KnownDevice.objects.count() == 1
    assert not sent()


# --- Choices --------------------------------------------------------------------------------------


def test_each_person_chooses_what_they_get(site: Site, anna: User) -> None:
    second = add_member(site, "second@example.com", "owner")
    client = log_in(the_owner())
    assert client.get(PAGE).context["form"].initial["mails_new_keys"] is True
    answer = client.post(PAGE, {"mails_new_devices": "on"})
    assert answer["Location"] == PAGE
    owner = the_owner()
    assert (owner.mails_new_keys, owner.mails_new_members, owner.mails_new_devices) == (
        False,
        False,
        True,
    )
    make_keys_by(site, second)
    assert [one.to for one in sent()] == [[second.email]]
    (entry,) = AuditEntry.objects.filter(action="mails.chosen", account_id=site.account_id)
    assert entry.changes == {
        "mails_new_keys": [None, "off"],
        "mails_new_members": [None, "off"],
    }
    client.post(PAGE, {"mails_new_devices": "on"})
    assert AuditEntry.objects.filter(action="mails.chosen").count() == 1, "nothing changed"


def make_keys_by(site: Site, user: User) -> None:
    person_mails.tell_of_key(account_id=site.account_id, key="k", actor=actor_of(user))


def test_the_choice_of_devices_counts_too(anna: User) -> None:
    User.objects.filter(pk=anna.pk).update(mails_new_devices=False)
    enter(anna)
    enter(anna, IPHONE)
    assert not sent()


@pytest.mark.parametrize("who", ["viewer", "editor", "staff"])
def test_everybody_has_the_page_for_themselves_alone(site: Site, who: str) -> None:
    user = (
        User.objects.create_user("alone@example.com", is_staff=True)
        if who == "staff"
        else add_member(site, f"{who}@example.com", who)
    )
    log_in(user).post(PAGE, {})
    user.refresh_from_db()
    assert not user.mails_new_keys
    assert the_owner().mails_new_keys


def test_nobody_changes_it_without_a_fresh_log_in(site: Site) -> None:
    old = log_in(the_owner(), seconds_ago=3600)
    assert old.get(PAGE).status_code == 200
    # The owner of a test has no password, and proves who they are by their mailbox.
    assert old.post(PAGE, {})["Location"].startswith("/accounts/password/reset/?next=")
    assert Client().post(PAGE, {})["Location"].startswith("/accounts/login/")
    assert the_owner().mails_new_keys


def test_the_page_says_that_no_mail_can_be_sent(site: Site, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert "has no mail server" in log_in(the_owner()).get(PAGE).content.decode()


def test_people_who_cannot_log_in_get_none(site: Site) -> None:
    User.objects.filter(email="owner@example.com").update(is_active=False)
    make_keys(site, 1)
    assert not PersonMail.objects.exists()

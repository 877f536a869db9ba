"""An owner deletes the account: who may, what goes, what stays, and what happens in between."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from billing import credit_requests
from billing.errors import RequestRefused
from billing.models import CreditAccount, CreditRequest, Hold, LedgerEntry, VerificationRun
from channels import account_keys, api_keys, channel_changes, fixed_answers, team
from channels.audit import Actor
from channels.errors import InvitationGone, PlanLimitReached, TeamRefusal
from channels.models import (
    Account,
    AccountKey,
    ApiKey,
    AuditEntry,
    Channel,
    Invitation,
    KeyUse,
    Membership,
    User,
)
from channels.tests.factories import Site
from conversations.archive import account_end, retention
from conversations.models import (
    ChatSession,
    FailedRequest,
    Feedback,
    IdempotencyRecord,
    ManagementRecord,
    Message,
    ReplayedRequest,
    UsageRollup,
)
from conversations.tasks import expire_sessions
from dashboard.tests.test_strangers import Tenant, make_tenant
from gateway import verification
from tests.support.clients import (
    ApiClient,
    account_page,
    log_in,
    member_client,
    owner_client,
    staff_guest,
)
from tests.support.fake_provider import FakeProvider
from tests.support.manage import manager_of
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

TEXTS = (
    "channels_channel", "channels_promptversion", "channels_fixedanswer", "channels_wording",
    "channels_keyuse",
    "conversations_chatsession", "conversations_message", "conversations_feedback",
    "conversations_failedrequest", "conversations_replayedrequest",
    "conversations_idempotencyrecord", "conversations_managementrecord", "billing_creditrequest",
    "channels_personmail",
)  # fmt: skip


@pytest.fixture
def mine(provider: FakeProvider, db: None) -> Tenant:
    one = make_tenant("mine", "qqtext", provider)
    Channel.objects.filter(id=one.site.channel.id).update(
        name="Shop", site_url="https://qqtext.example", fallback_replies={"x": "qqtext"}
    )
    Account.objects.filter(id=one.account.id).update(name="My shop")
    ReplayedRequest.objects.update(request_id="r-1")
    once = ApiClient(one.site.api_key).chat("qqtext", "s2", headers={"Idempotency-Key": "k"})
    assert once.status_code == 200
    return one


def delete(client: Client, tenant: Tenant, name: str = "My shop") -> Any:
    return client.post(account_page(tenant.site, "data/delete/"), {"name": name})


def everything_stored(account_id: int) -> str:
    """Return all rows of the tables that hold text, as the database has them."""
    found = []
    with connection.cursor() as cursor:
        for table in TEXTS:
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608  # our own tables
            found += [str(row) for row in cursor.fetchall()]
    return "\n".join(found)


# --- What goes, and what stays --------------------------------------------------------------------


def test_the_text_goes_and_the_books_stay(mine: Tenant) -> None:
    manager = manager_of(mine.site)
    assert manager.post("channels", {"name": "Blog", "system_prompt": "qqtext"}, once="1")
    assert "qqtext" in everything_stored(mine.account.id)
    before = list(LedgerEntry.objects.order_by("id").values())
    replies = Message.objects.filter(role="assistant").order_by("id")
    figures = list(replies.values("input_tokens", "output_tokens", "charged_microcredits"))
    client = log_in(mine.people["owner"])
    answer = delete(client, mine)
    assert answer["Location"] == "/"
    page = client.get("/", follow=True).content.decode()
    assert "The account My shop has been deleted." in page
    assert "being erased" not in page
    assert "qqtext" not in everything_stored(mine.account.id)
    assert not KeyUse.objects.exists()
    assert list(replies.values("input_tokens", "output_tokens", "charged_microcredits")) == figures
    assert list(LedgerEntry.objects.order_by("id").values())[: len(before)] == before
    account = Account.objects.get(id=mine.account.id)
    assert (account.name, account.deleted_by) == ("My shop", "owner@mine.example")
    assert account.deleted_at
    assert account.erased_at
    verification.verify_and_alert()
    assert not list(VerificationRun.objects.latest().details)


def test_what_is_left_of_the_credits_is_forfeited_in_the_ledger(mine: Tenant) -> None:
    left = CreditAccount.objects.get(account=mine.account).balance_microcredits
    assert left > 0
    delete(log_in(mine.people["owner"]), mine)
    entry = LedgerEntry.objects.filter(credit_account__account=mine.account).latest("sequence")
    assert (entry.kind, entry.debit, entry.credit) == ("adjustment", "customer", "issuance")
    assert (entry.amount_microcredits, entry.reason) == (left, account_end.FORFEITED)
    assert CreditAccount.objects.get(account=mine.account).balance_microcredits == 0


def test_keys_stop_and_everybody_is_out(mine: Tenant) -> None:
    manager = manager_of(mine.site)
    everybody = {role: log_in(user) for role, user in mine.people.items()}
    invitation = Invitation.objects.get(account=mine.account)
    delete(everybody["owner"], mine)
    assert ApiClient(mine.site.api_key).chat().status_code == 401
    assert ApiClient(mine.site.test_key).chat().status_code == 401
    assert manager.get("account").status_code == 401
    assert not ApiKey.objects.filter(revoked_at=None).exists()
    assert not AccountKey.objects.filter(revoked_at=None).exists()
    for role, client in everybody.items():
        assert client.get(account_page(mine.site)).status_code in (302, 404), role
        assert client.get("/")["Location"] == "/account/none/", role
    joining = User.objects.create_user(invitation.email)
    with pytest.raises(InvitationGone):
        team.accept_invitation(
            secret_digests=[invitation.secret_digest], user=joining, actor=Actor("x", joining)
        )
    assert CreditRequest.objects.get().state == "withdrawn"


def test_it_is_audited_for_the_staff(mine: Tenant) -> None:
    delete(log_in(mine.people["owner"]), mine)
    (entry,) = AuditEntry.objects.filter(action="account.deleted")
    assert (entry.actor, entry.target) == (mine.people["owner"], "My shop")
    assert entry.changes["members"] == [3, 0]
    assert AuditEntry.objects.filter(action="account.erased").count() == 1
    boss = log_in(User.objects.create_superuser("boss@example.com"))
    page = boss.get(f"/admin/channels/account/{mine.account.id}/change/").content.decode()
    now = timezone.now()
    assert f"Deleted by its owner on {now:%-d %b %Y} (owner@mine.example)." in page
    assert 'name="is_enabled"' not in page
    assert "Deleted" in boss.get("/admin/channels/account/").content.decode()


def test_a_strangers_account_is_untouched(mine: Tenant, provider: FakeProvider) -> None:
    theirs = make_tenant("theirs", "other", provider)
    models = (
        ChatSession, Message, Feedback, FailedRequest, ReplayedRequest, Channel, ApiKey,
        Membership, LedgerEntry, UsageRollup, IdempotencyRecord, ManagementRecord,
    )  # fmt: skip

    def rows() -> list[Any]:
        text = {str(row) for model in models for row in model._base_manager.values()}
        own = (str(theirs.account.id), str(theirs.site.channel.id), "other")
        return sorted(row for row in text if any(word in row for word in own[1:]))

    before = rows()
    delete(log_in(mine.people["owner"]), mine)
    assert rows() == before
    assert ApiClient(theirs.site.api_key).chat().status_code == 200
    assert log_in(theirs.people["owner"]).get("/").status_code == 200


def test_an_owner_of_another_account_too_goes_on_there(mine: Tenant, site: Site) -> None:
    owner = mine.people["owner"]
    Membership.objects.create(account_id=site.account_id, user=owner, role="owner")
    client = log_in(owner)
    delete(client, mine)
    assert client.get("/").status_code == 200
    assert Account.objects.get(id=site.account_id).is_enabled


# --- Who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_only_owners_may(mine: Tenant, role: str) -> None:
    assert delete(log_in(mine.people[role]), mine).status_code == 403
    assert not Account.objects.filter(deleted_at__isnull=False).exists()


def test_neither_staff_nor_strangers_may(mine: Tenant, stranger: Site) -> None:
    assert delete(staff_guest(mine.site), mine).status_code == 403
    assert delete(owner_client(stranger), mine).status_code == 404
    assert delete(Client(), mine)["Location"].startswith("/accounts/login/")
    client = member_client(mine.site, "owner")
    client.logout()
    assert delete(client, mine)["Location"].startswith("/accounts/login/")
    assert not Account.objects.filter(deleted_at__isnull=False).exists()


def test_it_asks_for_a_fresh_log_in(mine: Tenant) -> None:
    client = log_in(mine.people["owner"], seconds_ago=3600)
    assert client.get(account_page(mine.site, "data/")).status_code == 200
    assert delete(client, mine).status_code == 302
    assert not Account.objects.filter(deleted_at__isnull=False).exists()


@pytest.mark.parametrize("name", ["", "my shop", "My shop!", "\x00"])
def test_the_name_must_be_typed(mine: Tenant, name: str) -> None:
    answer = delete(log_in(mine.people["owner"]), mine, name)
    assert answer.status_code == 200
    assert answer.context["form"].errors
    assert not Account.objects.filter(deleted_at__isnull=False).exists()


def test_a_name_of_several_lines_can_be_typed(mine: Tenant) -> None:
    Account.objects.filter(id=mine.account.id).update(name="My \n shop")
    assert delete(log_in(mine.people["owner"]), mine).status_code == 302
    assert Account.objects.get(id=mine.account.id).deleted_at


# --- In between -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["erase_in_batches", "forget_session_ids", "erase_channel"])
def test_a_run_that_dies_is_finished_by_the_next(mine: Tenant, step: str, monkeypatch: Any) -> None:
    owner = mine.people["owner"]
    account_end.close_account(account=mine.account, actor=Actor(owner.email, owner))

    def die(*args: Any, **options: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(retention, step, die)
        with pytest.raises(KeyboardInterrupt):
            expire_sessions()
    assert Account.objects.get(id=mine.account.id).erased_at is None
    assert ApiClient(mine.site.api_key).chat().status_code == 401, "closed meanwhile"
    call_command("expiresessions")
    assert "qqtext" not in everything_stored(mine.account.id)
    assert Account.objects.get(id=mine.account.id).erased_at
    entries = LedgerEntry.objects.filter(reason=account_end.FORFEITED)
    expire_sessions()
    assert entries.count() == 1


def test_a_large_account_is_left_to_the_worker(mine: Tenant, monkeypatch: Any) -> None:
    monkeypatch.setattr(account_end, "MOST_AT_ONCE", 1)
    client = log_in(mine.people["owner"])
    delete(client, mine)
    assert "Its texts are being erased." in client.get("/", follow=True).content.decode()
    assert "qqtext" in everything_stored(mine.account.id)
    expire_sessions()
    assert "qqtext" not in everything_stored(mine.account.id)


def test_a_call_in_flight_is_waited_for(clock: Any, mine: Tenant) -> None:
    now, owner = timezone.now(), mine.people["owner"]
    credit = CreditAccount.objects.filter(account=mine.account)
    balance = credit.get().balance_microcredits
    Hold.objects.create(
        account=mine.account, channel=mine.site.channel, is_test=False, day=now.date(),
        amount_microcredits=1_000, created_at=now, expires_at=now + timedelta(minutes=5),
    )  # fmt: skip
    credit.update(held_microcredits=1_000)
    account_end.close_account(account=mine.account, actor=Actor(owner.email, owner))
    assert not account_end.erase_closed(account=mine.account, now=now)
    assert "qqtext" not in everything_stored(mine.account.id), "what is there goes at once"
    Message.objects.filter(role="user").update(content="qqtext, answered late", erased_at=None)
    clock.shift(timedelta(minutes=6))
    account_end.erase_all_closed(now=timezone.now())
    assert Account.objects.get(id=mine.account.id).erased_at
    assert "qqtext" not in everything_stored(mine.account.id)
    forfeited = LedgerEntry.objects.filter(reason=account_end.FORFEITED)
    assert sum(one.amount_microcredits for one in forfeited) == balance
    assert forfeited.count() == 2


def test_a_request_that_waited_for_the_end_adds_nothing(mine: Tenant) -> None:
    """It has passed the check of its role, and waits for the lock of the account's row."""
    account, channel, owner = mine.account, mine.site.channel, mine.people["owner"]
    actor = Actor(owner.email, owner)
    account_end.close_account(account=account, actor=actor)
    assert account_end.erase_closed(account=account, now=timezone.now())
    named: dict[str, Any] = {"account": account, "actor": actor}
    of_channel: dict[str, Any] = {"channel": channel, "actor": actor}
    late: tuple[Callable[[], Any], ...] = (
        lambda: team.invite(email="late@example.com", role=Membership.Role.OWNER, **named),
        lambda: channel_changes.create_channel(name="Late", system_prompt="qqtext", **named),
        lambda: channel_changes.update_channel(
            channel_id=str(channel.id), system_prompt="qqtext", actor=actor
        ),
        lambda: api_keys.issue_api_key(is_test=False, **of_channel),
        lambda: account_keys.issue_account_key(name="Late", **named),
        lambda: fixed_answers.add_fixed_answer(question="qqtext", answer="qqtext", **of_channel),
        lambda: credit_requests.ask(
            amount_microcredits=1_000_000, note="qqtext", token=uuid.uuid4(), **named
        ),
    )
    for add in late:
        with pytest.raises((PlanLimitReached, TeamRefusal, RequestRefused), match="been deleted"):
            add()
    assert "qqtext" not in everything_stored(account.id)


@pytest.mark.django_db(transaction=True)
def test_two_owners_at_once_delete_it_once(provider: FakeProvider) -> None:
    one = make_tenant("mine", "qqtext", provider)
    second = User.objects.create_user("second@example.com")
    Membership.objects.create(account=one.account, user=second, role="owner")
    actors = [Actor(user.email, user) for user in (one.people["owner"], second)]

    def work(number: int) -> bool:
        account_end.close_account(account=one.account, actor=actors[number])
        return account_end.erase_closed(account=one.account, now=timezone.now())

    assert sum(run_in_threads(work, 2)) == 1
    for action in ("account.deleted", "account.erased"):
        assert AuditEntry.objects.filter(action=action).count() == 1, action
    assert LedgerEntry.objects.filter(reason=account_end.FORFEITED).count() == 1
    assert CreditAccount.objects.get(account=one.account).balance_microcredits == 0


def test_a_retired_channel_keeps_no_note_either(mine: Tenant) -> None:
    """A note may quote what a visitor wrote."""
    retention.erase_channel(channel=mine.site.channel, now=timezone.now())
    assert Feedback.objects.get().note == ""
    assert Feedback.objects.get().rating == 1

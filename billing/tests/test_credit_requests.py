"""Requests for credits: one open at a time, and one grant each, whatever happens at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing import credit_request_mails, credit_requests, grants, tasks
from billing.errors import ReferenceReused, RequestDecided, RequestRefused
from billing.models import CreditAccount, CreditRequest, LedgerEntry
from billing.verification import find_differences
from channels.audit import Actor
from channels.models import Account, AuditEntry, Membership, User
from channels.tests.factories import Site, make_site
from tests.support.clients import owner_of
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def ask(site: Site, amount: int = 50 * CREDIT, token: uuid.UUID | None = None) -> CreditRequest:
    owner = owner_of(site)
    request, _ = credit_requests.ask(
        account=site.channel.account,
        amount_microcredits=amount,
        note="for the sale",
        token=token or uuid.uuid4(),
        actor=Actor(owner.email, owner),
    )
    return request


def staff(name: str = "staff@example.com") -> Actor:
    user, _ = User.objects.get_or_create(email=name, defaults={"is_staff": True})
    return Actor(user.email, user)


def approve(
    request: CreditRequest,
    amount: int = 50 * CREDIT,
    *,
    reason: str = "",
    actor: Actor | None = None,
    category: str = "purchase",
) -> CreditRequest:
    return credit_requests.approve(
        request=request,
        amount_microcredits=amount,
        reason=reason,
        actor=actor or staff(),
        category=category,
    )


def decline(request: CreditRequest, reason: str = "Unpaid invoice") -> CreditRequest:
    return credit_requests.decline(request=request, reason=reason, actor=staff())


def balance_of(site: Site) -> int:
    return CreditAccount.objects.get(account_id=site.account_id).balance_microcredits


def actions() -> list[str]:
    wanted = AuditEntry.objects.filter(action__startswith="credits.request")
    return list(wanted.order_by("id").values_list("action", flat=True))


def test_an_approved_request_grants_its_amount_once(site: Site) -> None:
    request = approve(ask(site), reason="Invoice 17 is paid")
    assert request.state == "approved"
    entry = LedgerEntry.objects.get(reference=f"request-{request.id}")
    assert request.entry == entry
    assert (entry.amount_microcredits, entry.reason) == (50 * CREDIT, "Invoice 17 is paid")
    assert (entry.actor, entry.grant.category) == ("staff@example.com", "purchase")
    assert balance_of(site) == 150 * CREDIT
    with pytest.raises(RequestDecided, match="already approved by staff@"):
        approve(request)
    with pytest.raises(RequestDecided, match="already approved"):
        decline(request)
    assert balance_of(site) == 150 * CREDIT
    assert not list(find_differences())


@pytest.mark.parametrize(("decide", "said"), [("approve", "approved"), ("decline", "declined")])
def test_a_decision_outlives_whoever_made_it(site: Site, decide: str, said: str) -> None:
    request = approve(ask(site)) if decide == "approve" else decline(ask(site))
    CreditRequest.objects.update(decided_by=None)
    with pytest.raises(RequestDecided, match=f"^This request was already {said}. Nothing"):
        approve(request)


def test_staff_may_approve_another_amount_than_asked(site: Site) -> None:
    request = approve(ask(site), 20 * CREDIT, category="promotion")
    assert request.granted_microcredits == 20 * CREDIT
    assert request.entry is not None
    assert request.entry.grant.category == "promotion"
    assert balance_of(site) == 120 * CREDIT
    changes = AuditEntry.objects.get(action="credits.request_approved").changes
    assert changes == {"amount": ["50", "20"]}


def test_a_declined_request_says_why_and_grants_nothing(site: Site) -> None:
    request = decline(ask(site))
    assert (request.state, request.decision_reason) == ("declined", "Unpaid invoice")
    assert balance_of(site) == 100 * CREDIT
    with pytest.raises(RequestDecided, match="already declined"):
        approve(request)
    with pytest.raises(ValueError, match="with a reason"):
        decline(request, reason="")


def test_a_deleted_account_cannot_ask(site: Site) -> None:
    Account.objects.filter(id=site.account_id).update(deleted_at=timezone.now())
    with pytest.raises(RequestRefused, match="has been deleted"):
        ask(site)
    assert not CreditRequest.objects.exists()


def test_a_withdrawn_request_can_no_longer_be_approved(site: Site) -> None:
    request = ask(site)
    actor = Actor("owner@example.com", owner_of(site))
    assert credit_requests.withdraw(request=request, actor=actor)
    assert not credit_requests.withdraw(request=request, actor=actor)
    with pytest.raises(RequestDecided, match="owner has withdrawn"):
        approve(request)
    assert actions() == ["credits.requested", "credits.request_withdrawn"]


def test_everything_is_in_the_accounts_audit_log(site: Site) -> None:
    decline(ask(site))
    approve(ask(site))
    assert actions() == [
        "credits.requested",
        "credits.request_declined",
        "credits.requested",
        "credits.request_approved",
    ]
    entry = AuditEntry.objects.get(action="credits.request_declined")
    assert (entry.account_id, entry.actor_name) == (site.account_id, "staff@example.com")
    assert entry.changes == {"reason": [None, "Unpaid invoice"]}


def test_an_account_has_one_open_request(site: Site, stranger: Site) -> None:
    request = ask(site)
    with pytest.raises(RequestRefused, match="already open"):
        ask(site)
    ask(stranger)
    decline(request)
    ask(site)


def test_the_same_form_asks_once_even_after_the_decision(site: Site) -> None:
    token = uuid.uuid4()
    request = ask(site, token=token)
    assert ask(site, token=token) == request
    approve(request)
    assert ask(site, token=token) == request
    assert CreditRequest.objects.count() == 1


@pytest.mark.parametrize("amount", [0, -1, CREDIT - 1, 1_000_001 * CREDIT])
def test_an_amount_out_of_bounds_is_refused(site: Site, amount: int) -> None:
    with pytest.raises(RequestRefused, match="1 to 1,000,000 credits"):
        ask(site, amount)


def test_an_account_asks_only_so_often_in_a_day(site: Site, clock: Any) -> None:
    for _ in range(credit_requests.REQUESTS_PER_DAY):
        credit_requests.withdraw(request=ask(site), actor=staff())
    with pytest.raises(RequestRefused, match="Ask again tomorrow"):
        ask(site)
    clock.shift(timedelta(days=1))
    ask(site)


def test_a_grant_of_nothing_is_refused_and_the_request_stays_open(site: Site) -> None:
    request = ask(site)
    with pytest.raises(ValueError, match="more than 0"):
        approve(request, 0)
    request.refresh_from_db()
    assert request.state == "open"


def test_a_reference_booked_by_hand_leaves_the_request_open(site: Site) -> None:
    request = ask(site)
    grants.grant_credits(
        account=site.channel.account,
        amount_microcredits=50 * CREDIT,
        reason="by hand",
        reference=request.reference,
    )
    with pytest.raises(ReferenceReused):
        approve(request)
    request.refresh_from_db()
    assert (request.state, request.unsent_mail) == ("open", "staff")
    assert balance_of(site) == 150 * CREDIT


def test_each_list_has_its_requests_in_order(site: Site, stranger: Site) -> None:
    declined, theirs = decline(ask(site)), ask(stranger)
    open_one = ask(site)
    assert credit_requests.list_latest(account_id=site.account_id) == [open_one, declined]
    assert credit_requests.list_open(most=5) == [theirs, open_one]
    assert credit_requests.list_open(after=theirs.id, most=5) == [open_one]
    assert credit_requests.list_open(most=1) == [theirs]
    assert credit_requests.list_decided(most=5) == [declined]
    assert credit_requests.count_open() == 2


def test_an_account_without_any_credits_yet_can_ask(db: None) -> None:
    site = make_site(credit_amount=0)
    approve(ask(site))
    assert balance_of(site) == 50 * CREDIT


@pytest.mark.parametrize(
    "change",
    [
        {"amount_microcredits": 0},
        {"state": "approved"},
        {"state": "declined"},
        {"granted_microcredits": 5},
    ],
)
def test_the_database_itself_refuses_a_request_that_contradicts_itself(
    site: Site, change: dict[str, Any]
) -> None:
    request = ask(site)
    with pytest.raises(IntegrityError), transaction.atomic():
        CreditRequest.objects.filter(id=request.id).update(**change)


# --- At once --------------------------------------------------------------------------------------


def outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except RequestDecided:
        return "late"
    except RequestRefused:
        return "refused"
    return "done"


@pytest.mark.django_db(transaction=True)
def test_two_staff_who_approve_at_once_grant_once() -> None:
    site = make_site()
    people = [staff(f"staff{number}@example.com") for number in range(8)]
    request = ask(site)
    found = run_in_threads(
        lambda index: outcome(lambda: approve(request, actor=people[index])), len(people)
    )
    assert sorted(found) == ["done"] + ["late"] * 7
    assert balance_of(site) == 150 * CREDIT
    assert LedgerEntry.objects.filter(reference=request.reference).count() == 1
    assert actions() == ["credits.requested", "credits.request_approved"]
    assert not list(find_differences())


@pytest.mark.django_db(transaction=True)
def test_of_approve_decline_and_withdraw_at_once_one_wins() -> None:
    for number in range(5):
        site = make_site(owner=f"owner{number}@example.com")
        actor, request = staff(), ask(site)
        deeds: list[Callable[[], object]] = [
            partial(approve, request, actor=actor),
            partial(credit_requests.decline, request=request, reason="no", actor=actor),
            partial(credit_requests.withdraw, request=request, actor=actor),
        ]
        run_in_threads(partial(lambda deeds, index: outcome(deeds[index % 3]), deeds), 6)
        request.refresh_from_db()
        is_approved = request.state == "approved"
        assert request.state != "open"
        assert balance_of(site) == (150 if is_approved else 100) * CREDIT
        assert (request.entry is not None) == is_approved
        closing = [one for one in actions() if one != "credits.requested"]
        assert len(closing) == number + 1
    assert not list(find_differences())


@pytest.mark.django_db(transaction=True)
def test_the_same_form_sent_20_times_at_once_asks_once() -> None:
    site, token = make_site(), uuid.uuid4()
    assert run_in_threads(lambda _: outcome(lambda: ask(site, token=token)), 20) == ["done"] * 20
    assert CreditRequest.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_different_forms_sent_at_once_leave_one_open_request() -> None:
    site = make_site()
    found = run_in_threads(lambda _: outcome(lambda: ask(site)), 8)
    assert sorted(found) == ["done"] + ["refused"] * 7
    assert CreditRequest.objects.count() == 1


# --- Mails ----------------------------------------------------------------------------------------


def sent() -> list[tuple[list[str], str]]:
    found = [(message.to, str(message.subject)) for message in mail.outbox]
    mail.outbox.clear()
    return found


def test_staff_read_of_a_request_and_the_asker_of_the_decision_once(
    site: Site, settings: Any
) -> None:
    settings.OPERATOR_CONTACT = "help@gateway.example"
    settings.PUBLIC_URL = "https://gateway.example"
    request = ask(site)
    assert tasks.mail_about_credit_requests() == 1
    assert tasks.mail_about_credit_requests() == 0
    (message,) = mail.outbox
    assert "owner@example.com asks for 50 credits" in message.body
    assert "for the sale" in message.body
    assert "https://gateway.example/admin/credits/requests/" in message.body
    name = site.channel.account.name
    assert sent() == [(["help@gateway.example"], f"Credit request: {name}")]
    approve(request, 20 * CREDIT, reason="Invoice 17 is paid")
    assert tasks.mail_about_credit_requests() == 1
    assert tasks.mail_about_credit_requests() == 0
    (message,) = mail.outbox
    assert "approved: 20 credits have been added" in message.body
    assert "Invoice 17 is paid" in message.body
    assert f"https://gateway.example/a/{site.account_id}/credits/" in message.body
    assert sent() == [(["owner@example.com"], f"Credit request approved: {name}")]
    decline(ask(site))
    tasks.mail_about_credit_requests()
    assert [subject for _, subject in sent()] == [f"Credit request declined: {name}"]


def test_without_an_address_the_superusers_read_it(site: Site, settings: Any) -> None:
    User.objects.create_superuser("boss@example.com")
    settings.OPERATOR_CONTACT = "https://gateway.example/help"
    ask(site)
    tasks.mail_about_credit_requests()
    assert [to for to, _ in sent()] == [["boss@example.com"]]


def test_whoever_left_the_account_is_told_nothing(site: Site) -> None:
    request = ask(site)
    other = User.objects.create_user("second@example.com")
    Membership.objects.update(user=other)
    decline(request)
    tasks.mail_about_credit_requests()
    assert [to for to, _ in sent()] == [["second@example.com"]]


def test_a_lost_mail_server_delays_a_mail_only(site: Site, monkeypatch: Any) -> None:
    User.objects.create_superuser("boss@example.com")
    request = ask(site)

    def lost(*args: Any) -> None:
        raise ConnectionRefusedError("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(credit_request_mails, "send_mail", lost)
        assert tasks.mail_about_credit_requests() == 0
    assert tasks.mail_about_credit_requests() == 1
    credit_requests.withdraw(request=request, actor=staff())
    assert tasks.mail_about_credit_requests() == 0


def test_an_account_name_of_several_lines_cannot_add_a_header(site: Site) -> None:
    User.objects.create_superuser("boss@example.com")
    Account.objects.update(name="Shop\nBcc: everybody@example.com")
    ask(site)
    assert tasks.mail_about_credit_requests() == 1
    assert mail.outbox[0].subject == "Credit request: Shop Bcc: everybody@example.com"


def test_what_another_worker_has_sent_is_not_sent_again(site: Site) -> None:
    User.objects.create_superuser("boss@example.com")
    request = ask(site)
    assert tasks.mail_about_credit_requests() == 1
    assert not credit_request_mails._send(request)
    assert len(mail.outbox) == 1


def test_mails_do_without_a_note_and_a_reason(site: Site) -> None:
    User.objects.create_superuser("boss@example.com")
    request = ask(site)
    CreditRequest.objects.update(note="", asked_by=None)
    tasks.mail_about_credit_requests()
    assert "An owner asks for 50 credits" in mail.outbox[0].body
    assert "note" not in mail.outbox[0].body
    approve(request)
    tasks.mail_about_credit_requests()
    assert "Reason" not in mail.outbox[1].body
    assert mail.outbox[1].to == ["owner@example.com"]


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_a_mail_once() -> None:
    User.objects.create_superuser("boss@example.com")
    ask(make_site())
    assert sum(run_in_threads(lambda _: credit_request_mails.send_due(), 6)) == 1
    assert len(mail.outbox) == 1

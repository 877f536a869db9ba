"""Owners ask for credits on the credits page, once, and read there what was decided."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from billing import credit_requests
from billing.models import CreditAccount, CreditRequest
from channels.audit import COMMAND_LINE
from channels.models import AuditEntry
from channels.tests.factories import Site, make_site
from common import heartbeat
from tests.support.clients import (
    account_page,
    assert_same_404,
    member_client,
    owner_client,
    staff_guest,
    text_of,
)
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def ask(client: Any, site: Site, amount: str = "250", **more: Any) -> Any:
    form = {"amount": amount, "note": "Order 17", "token": uuid.uuid4()} | more
    return client.post(account_page(site, "credits/ask/"), form)


def withdraw(client: Any, site: Site) -> Any:
    path = f"credits/requests/{CreditRequest.objects.get().id}/withdraw/"
    return client.post(account_page(site, path))


def page(client: Any, site: Site) -> str:
    return text_of(client.get(account_page(site, "credits/")))


def test_an_owner_asks_sees_the_open_request_and_then_the_decision(site: Site) -> None:
    client = owner_client(site)
    assert "Ask for credits</button>" in page(client, site)
    response = ask(client, site)
    assert response["Location"] == account_page(site, "credits/")
    text = page(client, site)
    assert "You asked for 250 credits. You will see the decision on this page." in text
    assert "250 credits asked for on" in text
    assert "Waiting for a decision" in text
    assert "Order 17" in text
    assert "Ask for credits</button>" not in text
    credit_requests.decline(
        request=CreditRequest.objects.get(), reason="Invoice 16 is open", actor=COMMAND_LINE
    )
    text = page(client, site)
    assert "Declined</span>" in text
    assert "Invoice 16 is open" in text
    assert "Ask for credits</button>" in text


def test_an_approved_request_shows_what_was_added(site: Site) -> None:
    ask(owner_client(site), site)
    credit_requests.approve(
        request=CreditRequest.objects.get(),
        amount_microcredits=200 * CREDIT,
        reason="",
        actor=COMMAND_LINE,
    )
    response = owner_client(site).get(account_page(site, "credits/"))
    assert response.context["figures"]["available"] == "300"
    (row,) = response.context["past_requests"]
    assert (row["amount"], row["granted"]) == ("250", "200")
    assert "request-" in text_of(response)


def test_an_owner_withdraws_a_request_once(site: Site) -> None:
    client = owner_client(site)
    ask(client, site)
    withdraw(client, site)
    assert "Your request has been withdrawn." in page(client, site)
    withdraw(client, site)
    assert "This request is no longer open." in page(client, site)
    assert CreditRequest.objects.get().state == "withdrawn"


def test_the_same_form_sent_twice_asks_once(site: Site) -> None:
    client, token = owner_client(site), uuid.uuid4()
    ask(client, site, token=token)
    ask(client, site, token=token)
    assert "This request was already sent." in page(client, site)
    assert CreditRequest.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_form_sent_20_times_at_once_asks_once() -> None:
    site, token = make_site(), uuid.uuid4()
    clients = [owner_client(site) for _ in range(20)]
    found = run_in_threads(lambda index: ask(clients[index], site, token=token).status_code, 20)
    assert found == [302] * 20
    assert CreditRequest.objects.count() == 1
    assert AuditEntry.objects.filter(action="credits.requested").count() == 1


def test_a_second_request_says_what_to_do(site: Site) -> None:
    client = owner_client(site)
    ask(client, site)
    response = ask(client, site)
    assert response.status_code == 422
    assert "withdraw it and ask again" in text_of(response)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"amount": ""}, "Fill in this field."),
        ({"amount": "lots"}, "is not an amount of credits"),
        ({"amount": "0.5"}, "Must be at least 1."),
        ({"amount": "-5"}, "Must be at least 1."),
        ({"amount": "1000001"}, "Must be at most 1,000,000."),
        ({"note": "x" * 501}, "Use at most 500 characters, not 501."),
        ({"token": "x"}, "The form is damaged. Reload the page and try again."),
    ],
)
def test_bad_input_says_how_to_fix_it(site: Site, change: dict[str, str], words: str) -> None:
    response = ask(owner_client(site), site, **change)
    assert response.status_code == 422
    assert words in text_of(response)
    assert not CreditRequest.objects.exists()


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_only_owners_ask_and_withdraw(site: Site, role: str) -> None:
    client = member_client(site, role)
    assert "An owner of the account can ask for credits." in page(client, site)
    assert ask(client, site).status_code == 403
    ask(owner_client(site), site)
    assert withdraw(client, site).status_code == 403
    text = page(client, site)
    assert "Waiting for a decision" in text
    assert "Withdraw request</button>" not in text
    assert CreditRequest.objects.get().state == "open"


def test_staff_who_look_at_an_account_read_its_requests_and_change_none(site: Site) -> None:
    ask(owner_client(site), site)
    client = staff_guest(site)
    assert "Order 17" in page(client, site)
    assert withdraw(client, site).status_code == 403
    assert ask(client, site).status_code == 403


def test_a_strangers_request_is_an_unknown_one(site: Site, stranger: Site) -> None:
    ask(owner_client(stranger), stranger)
    theirs = CreditRequest.objects.get()
    client = owner_client(site)
    assert "Order 17" not in page(client, site)
    path = account_page(site, "credits/requests/{}/withdraw/")
    assert_same_404(client, path, path.format(theirs.id), path.format(987_654), a="b")
    assert ask(client, stranger).status_code == 404
    theirs.refresh_from_db()
    assert theirs.state == "open"


def test_mail_is_promised_where_it_is_sent(site: Site, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    heartbeat.beat()
    client = owner_client(site)
    ask(client, site)
    assert "You will see the decision on this page and by e-mail." in page(client, site)


def test_a_low_balance_leads_to_the_form(site: Site) -> None:
    CreditAccount.objects.update(balance_microcredits=5 * CREDIT)
    client = owner_client(site)
    link = f'href="{account_page(site, "credits/")}#gw-ask">Ask for credits</a>'
    assert link in text_of(client.get(account_page(site)))
    assert 'href="#gw-ask">Ask for credits</a>' in page(client, site)
    assert 'id="gw-ask"' in page(client, site)
    viewer = member_client(site, "viewer")
    assert link not in text_of(viewer.get(account_page(site)))


def test_the_page_says_who_decides(site: Site, settings: Any) -> None:
    assert "The operator decides." in page(owner_client(site), site)
    settings.OPERATOR_CONTACT = "help@example.com"
    text = page(owner_client(site), site)
    assert re.search(r"The operator \(<a [^>]*>help@example.com</a>\) decides\.", text)

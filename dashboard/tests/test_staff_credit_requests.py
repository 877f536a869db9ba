"""Staff decide on requests for credits in one step, each once, with the right permissions only."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client

from billing import credit_requests, grants
from billing.models import CreditAccount, CreditRequest, LedgerEntry
from channels.audit import Actor
from channels.models import AuditEntry, User
from channels.tests.factories import Site, make_site
from dashboard.staff import credit_requests as pages
from tests.support.clients import (
    ApiClient,
    log_in,
    member_client,
    owner_client,
    owner_of,
    staff_client,
    text_of,
)
from tests.support.fake_provider import FakeProvider
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
LIST = "/admin/credits/requests/"
DECIDER = ("view_creditrequest", "change_creditrequest", "add_ledgerentry")


def ask(site: Site, amount: int = 50) -> CreditRequest:
    owner = owner_of(site)
    request, _ = credit_requests.ask(
        account=site.channel.account,
        amount_microcredits=amount * CREDIT,
        note="Order 17",
        token=uuid.uuid4(),
        actor=Actor(owner.email, owner),
    )
    return request


def decide(client: Client, request: CreditRequest, decision: str, **more: str) -> Any:
    form = {"decision": decision, "amount": "50", "category": "purchase", "reason": ""} | more
    return client.post(f"{LIST}{request.id}/", form)


def state_of(request: CreditRequest) -> str:
    request.refresh_from_db()
    return request.state


def balance_of(site: Site) -> int:
    balance = CreditAccount.objects.get(account_id=site.account_id).balance_microcredits
    return balance // CREDIT


def test_staff_see_a_request_beside_the_accounts_figures(
    site: Site, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    ask(site)
    response = staff_client(*DECIDER).get(LIST)
    (row,) = response.context["rows"]
    assert (row["amount"], row["available"], row["spent"]) == ("50", "99", "1")
    assert "Lasts until about" in row["runway"]
    text = text_of(response)
    for words in ("50 credits for", "Order 17", "owner@example.com", "Approve request", "Decline"):
        assert words in text
    assert 'value="50"' in text


def test_approving_takes_one_step_and_is_told(site: Site) -> None:
    request, client = ask(site), staff_client(*DECIDER)
    response = decide(client, request, "approve", reason="Invoice 17 is paid")
    assert response["Location"] == LIST
    assert state_of(request) == "approved"
    assert balance_of(site) == 150
    text = text_of(client.get(LIST))
    assert "Added 50 credits to" in text
    assert "No open request" in text
    assert "Invoice 17 is paid" in text
    entry = AuditEntry.objects.get(action="credits.request_approved")
    assert (entry.account_id, entry.actor_name) == (site.account_id, "staff@example.com")


def test_another_amount_can_be_approved(site: Site) -> None:
    request = ask(site)
    decide(staff_client(*DECIDER), request, "approve", amount="1,000.5", category="promotion")
    request.refresh_from_db()
    assert request.granted_microcredits == 1_000_500_000
    assert request.entry is not None
    assert request.entry.grant.category == "promotion"


def test_declining_needs_a_reason(site: Site) -> None:
    request, client = ask(site), staff_client(*DECIDER)
    response = decide(client, request, "decline", amount="")
    assert response.status_code == 422
    assert "Say why, so that the owner knows what to do." in text_of(response)
    assert state_of(request) == "open"
    decide(client, request, "decline", amount="", reason="Invoice 16 is open")
    assert state_of(request) == "declined"
    assert "Invoice 16 is open" in text_of(owner_client(site).get("/credits/"))
    assert balance_of(site) == 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"amount": ""}, "Fill in this field."),
        ({"amount": "0"}, "Must be at least 0.000001."),
        ({"amount": "lots"}, "is not an amount of credits"),
        ({"category": "adjustment"}, "Choose one of the options."),
        ({"reason": "x" * 201}, "Use at most 200 characters, not 201."),
        ({"decision": "maybe"}, "Choose “Approve” or “Decline”."),
    ],
)
def test_bad_input_says_how_to_fix_it(site: Site, change: dict[str, str], words: str) -> None:
    request = ask(site)
    response = decide(staff_client(*DECIDER), request, **({"decision": "approve"} | change))
    assert response.status_code == 422
    assert words in text_of(response)
    assert state_of(request) == "open"


def test_whoever_is_second_is_told_what_was_decided(site: Site) -> None:
    request, client = ask(site), staff_client(*DECIDER)
    for _ in range(3):
        decide(client, request, "approve")
    assert "already approved by staff@example.com" in text_of(client.get(LIST))
    decide(client, request, "decline", reason="late")
    assert "already approved by staff@example.com" in text_of(client.get(LIST))
    assert balance_of(site) == 150


def test_a_reference_booked_by_hand_is_explained(site: Site) -> None:
    request = ask(site)
    grants.grant_credits(
        account=site.channel.account,
        amount_microcredits=CREDIT,
        reason="by hand",
        reference=request.reference,
    )
    response = decide(staff_client(*DECIDER), request, "approve")
    assert response.status_code == 422
    assert f"already has the reference “{request.reference}”" in text_of(response)
    assert state_of(request) == "open"


@pytest.mark.django_db(transaction=True)
def test_the_same_approval_sent_20_times_at_once_grants_once() -> None:
    site = make_site()
    request = ask(site)
    staff_client(*DECIDER)
    clients = [log_in(User.objects.get(email="staff@example.com")) for _ in range(20)]
    found = run_in_threads(lambda index: decide(clients[index], request, "approve").status_code, 20)
    assert found == [302] * 20
    assert balance_of(site) == 150
    assert LedgerEntry.objects.filter(reference=request.reference).count() == 1


# --- Permissions ----------------------------------------------------------------------------------


def test_seeing_is_not_deciding(site: Site) -> None:
    request, client = ask(site), staff_client("view_creditrequest")
    text = text_of(client.get(LIST))
    assert "Order 17" in text
    assert "Decline request" not in text
    assert decide(client, request, "decline", reason="no").status_code == 403
    assert decide(client, request, "approve").status_code == 403
    assert state_of(request) == "open"


def test_deciding_without_the_permission_to_give_credits_is_declining(site: Site) -> None:
    request, client = ask(site), staff_client("view_creditrequest", "change_creditrequest")
    text = text_of(client.get(LIST))
    assert "Decline request" in text
    assert "Approve request" not in text
    assert "Approving also needs the permission to book credits." in text
    assert decide(client, request, "approve").status_code == 403
    assert state_of(request) == "open"
    assert balance_of(site) == 100
    decide(client, request, "decline", reason="no")
    assert state_of(request) == "declined"


@pytest.mark.parametrize("alone", ["change_creditrequest", "add_ledgerentry", "view_account"])
def test_no_other_permission_alone_opens_the_page(site: Site, alone: str) -> None:
    request, client = ask(site), staff_client(alone)
    assert client.get(LIST).status_code == 403
    assert decide(client, request, "approve").status_code == 403
    assert decide(client, request, "decline", reason="no").status_code == 403
    assert "waiting for a decision" not in text_of(client.get("/admin/"))
    assert state_of(request) == "open"


@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_members_and_strangers_never_decide(site: Site, stranger: Site, role: str) -> None:
    request = ask(site)
    for client in (member_client(site, role), owner_client(stranger)):
        assert client.get(LIST).status_code == 302
        assert decide(client, request, "approve").status_code == 302
    assert state_of(request) == "open"


def test_the_group_billing_decides_and_support_looks(site: Site) -> None:
    call_command("staffgroups")
    held = {
        name: set(
            Permission.objects.filter(
                group__name=name, codename__endswith="creditrequest"
            ).values_list("codename", flat=True)
        )
        for name in ("Billing", "Support", "Catalogue", "Auditor")
    }
    assert held == {
        "Billing": {"view_creditrequest", "change_creditrequest"},
        "Support": {"view_creditrequest"},
        "Catalogue": set(),
        "Auditor": {"view_creditrequest"},
    }


# --- Finding the page -----------------------------------------------------------------------------


def test_the_overview_counts_what_waits(site: Site, stranger: Site) -> None:
    client = staff_client("view_creditrequest")
    text = text_of(client.get("/admin/"))
    assert "waiting for a decision" not in text
    assert f'href="{LIST}"' in text
    ask(site)
    assert "1 credit request is waiting for a decision." in text_of(client.get("/admin/"))
    ask(stranger)
    assert "2 credit requests are waiting for a decision." in text_of(client.get("/admin/"))
    assert "Credit requests" in text_of(client.get("/admin/search/?s=credit"))


def test_an_empty_page_says_what_will_be_there(db: None) -> None:
    text = text_of(staff_client("view_creditrequest").get(LIST))
    assert "No open request" in text
    assert "Owners ask for credits on their credits page." in text


def test_many_requests_have_pages_and_a_bounded_number_of_queries(
    monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr(pages, "OPEN_SHOWN", 2)
    requests = [ask(make_site(owner=f"o{number}@example.com")) for number in range(5)]
    client, seen, url = staff_client(*DECIDER), [], LIST
    while url:
        with django_assert_max_num_queries(25):
            response = client.get(url)
        seen += [row["request"].id for row in response.context["rows"]]
        after = response.context["next_after"]
        url = f"{LIST}?after={after}" if after else ""
    assert seen == [request.id for request in requests]
    # What was refused is shown, on whichever page it is.
    response = decide(client, requests[4], "decline")
    assert [row["request"].id for row in response.context["rows"]] == [requests[4].id]
    assert client.get(f"{LIST}?after=x").status_code == 200


def test_an_address_without_a_form_leads_to_the_list(site: Site) -> None:
    client = staff_client(*DECIDER)
    assert client.get(f"{LIST}{ask(site).id}/")["Location"] == LIST
    assert client.post(f"{LIST}987654/", {"decision": "approve"}).status_code == 404

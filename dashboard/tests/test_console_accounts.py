"""A page, its links, and its forms belong to the account in the URL, in every tab.

The tests find pages and forms by walking the console, so new ones are covered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.urls import Resolver404, resolve, reverse

from channels.models import Account, Membership, User
from channels.tests.factories import make_site
from dashboard.console.access import STAFF_VIEW_SESSION_KEY, begin_staff_view
from dashboard.login.pending import ACCOUNT_SESSION_KEY
from dashboard.tests.test_strangers import IDS, Tenant, address_of, make_tenant, names_of, rows_of
from gateway.tests.test_policies import CONSOLE
from tests.support.clients import ConsoleClient, log_in, staff_guest
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

# These belong to a person, not to an account.
FREE = {"logout", "switch_account", "create_account", "no_account", "leave_staff_view"}
LINKS = ("href", "action", "formaction", "hx-get", "hx-post", "data-key-url", "data-key-note",
         "data-reveal")  # fmt: skip


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """The links and forms of a page."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.forms: list[Form] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.links += [given[name] for name in LINKS if given.get(name)]
        if tag == "form":
            method = given.get("method", "get").lower()
            self.forms.append(Form(given.get("action") or self.path, method))
        elif tag in ("input", "textarea", "select", "button") and given.get("name") and self.forms:
            is_off = given.get("type") in ("radio", "checkbox") and "checked" not in given
            if not is_off:
                self.forms[-1].fields[given["name"]] = given.get("value") or "Changed"


@dataclass
class Both:
    """A person who owns two accounts, with their browser."""

    ours: Tenant
    other: Tenant
    client: ConsoleClient


@pytest.fixture
def both(provider: FakeProvider, db: None) -> Both:
    """Return the two accounts. Another tab of the browser has chosen the other one."""
    ours, other = make_tenant("ours", "own", provider), make_tenant("other", "else", provider)
    person = User.objects.create_user("ann@example.com")
    for one in (other, ours):
        Membership.objects.create(account=one.account, user=person, role="owner")
    client = log_in(person)
    switched = client.post(reverse("console:switch_account"), {"account": other.account.pk})
    assert switched["Location"] == f"/a/{other.account.pk}/"
    return Both(ours, other, client)


def own_pages(tenant: Tenant) -> list[str]:
    """Return the URL of each page of an account."""
    values = {name: find(tenant) for name, (find, _) in IDS.items()}
    return [
        address_of(pattern, values)
        for pattern in CONSOLE
        if pattern.name not in FREE
        and {"account_id", "channel_id"} & set(names_of(pattern))
        and not getattr(pattern.callback, "is_post_only", False)
    ]


def read(client: Any, path: str) -> Page | None:
    response = client.get(path)
    if response.streaming or response.status_code != 200:
        return None
    return Page(response.content.decode(), path)


def account_of(link: str, page: str, tenants: tuple[Tenant, ...]) -> str:
    """Return the account a link leads to: 'none' if it belongs to no account, '?' if unstated."""
    path = urlsplit(link).path if not link.startswith(("?", "#")) else urlsplit(page).path
    try:
        match = resolve(path)
    except Resolver404:
        return "none"
    if match.namespace != "console" or match.url_name in FREE:
        return "none"
    for tenant in tenants:
        own = {"account_id": tenant.account.pk, "channel_id": tenant.site.channel.id}
        if any(match.kwargs.get(name) == value for name, value in own.items()):
            return str(tenant.account.pk)
    return "?"


def test_each_link_and_form_of_a_page_leads_to_the_account_it_shows(both: Both) -> None:
    seen = 0
    for address in own_pages(both.ours):
        page = read(both.client, address)
        if page is None:
            continue
        leads = {
            link: account_of(link, address, (both.ours, both.other))
            for link in [*page.links, *(form.action for form in page.forms)]
            if link.startswith(("/", "?"))
        }
        right = ("none", str(both.ours.account.pk))
        wrong = {link for link, to in leads.items() if to not in right}
        assert not wrong, (address, wrong)
        seen += len(leads)
    assert seen > 300


# Valid values for the forms that the walk finds.
GOOD = {
    "name": "Changed", "email": "new@example.com", "role": "viewer", "threshold": "7",
    "confirm": "yes", "is_enabled": "off", "rating": "1", "overlap": "0", "mode": "test",
    "message": "Hello!",
}  # fmt: skip


def test_each_form_acts_on_the_account_of_its_page_whatever_another_tab_does(both: Both) -> None:
    before, sent = rows_of(both.other.account), 0
    forms = [
        form
        for address in own_pages(both.ours)
        if (page := read(both.client, address)) is not None
        for form in page.forms
        if form.method == "post" and "logout" not in form.action and "switch" not in form.action
        # Leaving and deleting would keep the walk from trying the others.
        if not re.search(r"/(leave|delete|retire|remove|withdraw|second-factor)/", form.action)
    ]
    for form in {one.action: one for one in forms}.values():
        fields = form.fields | {name: GOOD[name] for name in form.fields if name in GOOD}
        response = both.client.post(form.action, fields)
        assert response.status_code in (200, 302, 400, 409, 422), (
            form.action,
            response.status_code,
        )
        if response.status_code == 302:
            led = account_of(response["Location"], form.action, (both.ours, both.other))
            assert led == str(both.ours.account.pk), (form.action, response["Location"])
        sent += 1
    assert sent > 12
    assert rows_of(both.other.account) == before
    both.ours.account.refresh_from_db()
    assert both.ours.account.name == "Changed"
    assert both.ours.account.invitations.filter(email="new@example.com").exists()


def test_two_tabs_redeem_invite_and_rename_each_in_its_own_account(both: Both) -> None:
    client, ours, other = both.client, both.ours.account, both.other.account
    for account, name in ((ours, "One"), (other, "Two"), (ours, "Three")):
        client.post(reverse("console:team_rename", args=[account.pk]), {"name": name})
        client.post(reverse("console:switch_account"), {"account": other.pk})
    assert Account.objects.get(pk=ours.pk).name == "Three"
    assert Account.objects.get(pk=other.pk).name == "Two"


def test_a_short_address_leads_to_the_account_chosen_last(both: Both) -> None:
    other = both.other.account.pk
    for path in ("/", "/credits/", "/usage/?range=30d", "/conversations/5/?text=x"):
        response = super(ConsoleClient, both.client).get(path)
        assert response["Location"] == f"/a/{other}{path}"


def test_a_form_that_names_no_account_is_taken_only_where_there_is_one(both: Both) -> None:
    accounts = (both.ours.account, both.other.account)
    names = [account.name for account in accounts]
    response = both.client.post("/team/name/", {"name": "Changed"}, follow=True)
    assert "Nothing was changed: the form did not say which" in response.content.decode()
    assert [Account.objects.get(pk=one.pk).name for one in accounts] == names
    alone = log_in(both.ours.people["owner"])
    alone.post("/team/name/", {"name": "Changed"})
    assert Account.objects.get(pk=both.ours.account.pk).name == "Changed"


def test_a_link_to_a_conversation_opens_whichever_account_was_chosen(both: Both) -> None:
    session = IDS["session_pk"][0](both.ours)
    page = both.client.get(reverse("console:conversation", args=[both.ours.account.pk, session]))
    assert page.status_code == 200
    assert page.context["member"].account == both.ours.account
    assert both.ours.account.name in page.content.decode()


def test_the_title_names_the_account_of_a_person_with_several(both: Both) -> None:
    both.ours.account.name = "Ann & Co"
    both.ours.account.save()
    page = both.client.get(reverse("console:credits", args=[both.ours.account.pk]))
    assert re.search(r"<title>\s*Credits · Ann &amp; Co · ", page.content.decode())


def test_staff_keep_their_own_accounts_beside_the_one_they_look_at(db: None) -> None:
    viewed, own = make_site(), make_site(owner="staff2@example.com", name="Own")
    client = staff_guest(viewed)
    staff = User.objects.get(email="staff@example.com")
    Membership.objects.create(account=own.channel.account, user=staff, role="owner")
    for site, is_guest in ((viewed, True), (own, False)):
        page = client.get(reverse("console:team", args=[site.account_id]))
        assert page.context["member"].is_staff_view is is_guest
        assert page.context["member"].account.pk == site.account_id
    # A tab that still shows the first account does not end the view of another.
    session = client.session
    begin_staff_view(session, own.account_id)
    session.save()
    client.post(reverse("console:leave_staff_view"), {"account": viewed.account_id})
    assert client.session[STAFF_VIEW_SESSION_KEY] == own.account_id


def test_a_refusal_leads_back_to_the_same_account(both: Both) -> None:
    Membership.objects.filter(account=both.ours.account).update(role="viewer")
    response = both.client.post(reverse("console:team_rename", args=[both.ours.account.pk]))
    assert response.status_code == 403
    assert f'href="/a/{both.ours.account.pk}/"' in response.content.decode()
    assert both.client.session[ACCOUNT_SESSION_KEY] == both.other.account.pk


# --- URLs only for forms --------------------------------------------------------------------------

POST_ONLY = [one for one in CONSOLE if getattr(one.callback, "is_post_only", False)]


@pytest.mark.parametrize("pattern", POST_ONLY, ids=lambda one: str(one.pattern))
def test_opening_a_forms_address_leads_to_its_page(pattern: Any, both: Both) -> None:
    """This happens after a log-in that began with a form of an expired session."""
    values = {name: find(both.ours) for name, (find, _) in IDS.items()}
    path = address_of(pattern, values)
    # Determines where short URLs lead.
    both.client.post(reverse("console:switch_account"), {"account": both.ours.account.pk})
    response = both.client.get(path, follow=True)
    assert response.status_code == 200, path
    assert response.redirect_chain, path
    if {"account_id", "channel_id"} & set(names_of(pattern)):
        assert response.context["member"].account == both.ours.account
    assert both.client.put(path).status_code in (302, 405)


def test_no_address_of_the_console_answers_an_empty_page(both: Both) -> None:
    values = {name: find(both.ours) for name, (find, _) in IDS.items()}
    for pattern in CONSOLE:
        if pattern.name == "logout":
            continue
        response = both.client.get(address_of(pattern, values), follow=True)
        assert response.status_code in (200, 404), pattern.name

"""“View as owner”: read-only, without keys, in the audit log, never a log-in as somebody else."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from channels.models import AuditEntry, User
from channels.tests.factories import Site
from dashboard.console import urls as console_urls
from dashboard.console.access import STAFF_VIEW_LASTS, STAFF_VIEW_SESSION_KEY, begin_staff_view
from tests.support.clients import owner_client, page_of, staff_client

pytestmark = pytest.mark.django_db


GUEST = ("view_account", "view_ledgerentry", "view_message")
PAGES: list[Any] = [page for page in console_urls.urlpatterns if isinstance(page, URLPattern)]


@pytest.fixture
def guest(site: Site) -> Client:
    """A staff member who looks at the site's account."""
    client = staff_client(*GUEST)
    response = client.post(reverse("admin:view_as_owner", args=[site.account_id]))
    assert response.status_code == 302
    assert response["Location"] == "/"
    return client


def test_every_start_is_in_the_accounts_audit_log(guest: Client, site: Site) -> None:
    guest.post(reverse("admin:view_as_owner", args=[site.account_id]))
    entries = AuditEntry.objects.filter(action="staff.viewed_account")
    assert [(one.account_id, one.actor_name) for one in entries] == [
        (site.account_id, "staff@example.com")
    ] * 2


def test_asking_alone_opens_nothing(site: Site) -> None:
    client = staff_client(*GUEST)
    response = client.get(reverse("admin:view_as_owner", args=[site.account_id]))
    assert response.status_code == 200
    assert STAFF_VIEW_SESSION_KEY not in client.session
    assert not AuditEntry.objects.filter(action="staff.viewed_account").exists()


def test_a_guest_stays_themselves_and_sees_the_banner(guest: Client, site: Site) -> None:
    response = guest.get("/credits/")
    text = response.content.decode()
    assert response.status_code == 200
    ends_at = (timezone.now() + STAFF_VIEW_LASTS).strftime("%H:%M")
    assert f"as staff until {ends_at} UTC. This view is read-only" in text
    assert response.context["user"].email == "staff@example.com"
    assert response.context["member"].account.id == site.account_id
    assert reverse("console:leave_staff_view") in text


def test_a_guest_cannot_write_anything(guest: Client, site: Site) -> None:
    before = AuditEntry.objects.count()
    tried = 0
    for pattern in PAGES:
        # These concern the person's own log-in. “create_account” does nothing if they have an
        # account.
        if pattern.name in ("leave_staff_view", "logout", "no_account", "create_account"):
            continue
        address = address_of(pattern, site)
        if address is None:
            continue
        status = guest.post(address, {"name": "x", "code": "x", "threshold": "1"}).status_code
        assert status in (403, 404, 405), (pattern.name, status)
        tried += 1
    assert tried > 10
    assert AuditEntry.objects.count() == before


def address_of(pattern: Any, site: Site) -> str | None:
    """Return the URL of a console page, for the site's channel if it needs one."""
    known = {"channel_id": site.channel.id, "account_id": site.account_id}
    wanted = set(pattern.pattern.converters)
    if wanted - set(known):
        return None
    return reverse(f"console:{pattern.name}", kwargs={name: known[name] for name in wanted})


def test_a_guest_sees_no_key(guest: Client, site: Site) -> None:
    for pattern in PAGES:
        address = address_of(pattern, site)
        if address is None or pattern.name in ("logout", "leave_staff_view"):
            continue
        response = guest.get(address)
        content = b"".join(response) if response.streaming else response.content
        for key in (site.api_key, site.test_key):
            assert key.encode() not in content, pattern.name


def test_a_guest_sees_no_other_accounts_channel(guest: Client, stranger: Site) -> None:
    url = reverse("console:channel", args=[stranger.channel.id])
    assert guest.get(url).status_code == 404


def test_leaving_leads_back_to_the_account(guest: Client, site: Site) -> None:
    assert guest.get(reverse("console:leave_staff_view"))["Location"] == "/"
    response = guest.post(reverse("console:leave_staff_view"))
    assert response["Location"] == reverse("admin:channels_account_change", args=[site.account_id])
    assert STAFF_VIEW_SESSION_KEY not in guest.session
    assert guest.get("/credits/")["Location"] == reverse("console:no_account")


@pytest.mark.parametrize("missing", GUEST)
def test_without_the_permissions_nobody_looks(site: Site, missing: str) -> None:
    """Permission to list accounts does not yet allow reading what visitors wrote."""
    client = staff_client("view_user", *(one for one in GUEST if one != missing))
    url = reverse("admin:view_as_owner", args=[site.account_id])
    assert client.get(url).status_code == 403
    assert client.post(url).status_code == 403
    assert not AuditEntry.objects.filter(action="staff.viewed_account").exists()


def test_a_permission_taken_away_ends_the_view_at_once(guest: Client, site: Site) -> None:
    User.objects.get(email="staff@example.com").user_permissions.clear()
    assert guest.get("/credits/").status_code == 302


def test_owners_cannot_get_there(site: Site) -> None:
    client = owner_client(site)
    url = reverse("admin:view_as_owner", args=[site.account_id])
    assert client.post(url)["Location"].startswith("/admin/login/")
    session = client.session
    begin_staff_view(session, site.account_id + 1)
    session.save()
    assert client.get("/credits/").context["member"].account.id == site.account_id


def test_an_unknown_account_is_not_found(site: Site) -> None:
    assert staff_client(*GUEST).get("/admin/accounts/999999/view/").status_code == 404


def enter_password_again(client: Client) -> None:
    """Do what the page asks of an old log-in, whichever way the clock was moved."""
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] = time.time()
    session.save()


@pytest.mark.parametrize("minutes", [59, 61, -3])
def test_a_view_ends_after_an_hour(clock: Any, guest: Client, site: Site, minutes: int) -> None:
    """So does a view that a fast clock began, because nobody knows when that really was."""
    start = reverse("admin:view_as_owner", args=[site.account_id])
    for path in (f"/a/{site.account_id}/credits/", page_of(site)):
        clock.shift(minutes * 60)
        enter_password_again(guest)
        response = guest.get(path)
        if minutes == 59:
            assert response.status_code == 200
            break
        # First a redirect to where the view begins, then the same as for every non-member.
        assert response["Location"] == start
        assert "60 minutes as staff have ended" in guest.get(start).content.decode()
        assert guest.get(path).status_code == 404
        guest.post(start)
        assert guest.get(path).status_code == 200

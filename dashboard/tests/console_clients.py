"""Browsers of people at the console, for its tests."""

from __future__ import annotations

import re
import time
from typing import Any

from django.test import Client

from channels.models import Account, Membership, User
from channels.tests.factories import Site
from dashboard.console.access import begin_staff_view

UNKNOWN = "0190a000-0000-7000-8000-000000000000"


class ConsoleClient(Client):
    """A browser at the console. It follows short URLs to the same page of the account."""

    def get(self, path: Any, *args: Any, **more: Any) -> Any:
        response = super().get(path, *args, **more)
        asked = response.request["PATH_INFO"]
        leads_on = response.status_code == 302 and re.fullmatch(
            rf"/a/\d+{re.escape(asked)}(\?.*)?", response["Location"]
        )
        more.pop("data", None)
        return super().get(response["Location"], **more) if leads_on else response


def owner_of(site: Site) -> User:
    return User.objects.get(memberships__account_id=site.account_id, memberships__role="owner")


def log_in(user: User, *, seconds_ago: int | None = 0) -> ConsoleClient:
    """Return the browser of a person who entered the password that long ago, or never if None."""
    client = ConsoleClient()
    client.force_login(user)
    session = client.session
    records = session["account_authentication_methods"]
    for record in records:
        record["at"] = time.time() - (seconds_ago or 0)
    session["account_authentication_methods"] = [] if seconds_ago is None else records
    session.save()
    return client


def owner_client(site: Site, **more: Any) -> Client:
    return log_in(owner_of(site), **more)


def member_client(site: Site, role: str) -> Client:
    """Return the browser of a new member with this role."""
    user = User.objects.create_user(f"{role}@example.com")
    account = Account.objects.get(id=site.account_id)
    Membership.objects.create(account=account, user=user, role=role)
    return log_in(user)


def staff_guest(site: Site) -> Client:
    """Return the browser of a staff member who looks at the account."""
    user = User.objects.create_superuser("staff@example.com")
    client = log_in(user)
    session = client.session
    begin_staff_view(session, site.account_id)
    session.save()
    return client


def account_page(site: Site, rest: str = "") -> str:
    return f"/a/{site.account_id}/{rest}"


def page_of(site: Site, rest: str = "") -> str:
    return f"/channels/{site.channel.id}/{rest}"


def assert_same_404(client: Client, mine: str, theirs: str, unknown: str, **post: str) -> None:
    """Assert that the responses for a stranger's row and an unknown one are identical 404s."""
    answers = [client.post(one, post) if post else client.get(one) for one in (theirs, unknown)]
    assert [answer.status_code for answer in answers] == [404, 404], mine
    assert answers[0].content == answers[1].content

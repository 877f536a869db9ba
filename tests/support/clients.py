"""Callers of the API, and browsers of people."""

from __future__ import annotations

import re
import time
from typing import Any

from django.contrib.auth.models import Permission
from django.test import Client

from channels.models import Account, Membership, User
from channels.tests.factories import Site
from dashboard.console.access import begin_staff_view

UNKNOWN = "0190a000-0000-7000-8000-000000000000"


class ApiClient:
    """Calls the API as a backend does: JSON bodies, the key in a header."""

    def __init__(self, key: str | None = None) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"X-API-Key": key} if key else {}

    def chat(self, message: Any = "Hello!", session_id: Any = "s1", **more: Any) -> Any:
        headers = more.pop("headers", {})
        return self.post(
            "/api/chat", {"message": message, "session_id": session_id} | more, headers
        )

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        return self.client.post(
            path, body, content_type="application/json", headers=self.headers | (headers or {})
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=self.headers | headers)

    def history(self, session_id: str = "s1") -> list[dict[str, str]]:
        response = self.client.get("/api/history", {"session_id": session_id}, headers=self.headers)
        assert response.status_code == 200, response.content
        messages: list[dict[str, str]] = response.json()["messages"]
        return messages

    def erase(self, session_id: str = "s1") -> Any:
        return self.client.delete(f"/api/history?session_id={session_id}", headers=self.headers)


# --- People ---------------------------------------------------------------------------------------


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


def log_in(user: User, *, seconds_ago: int | None = 0, **options: Any) -> ConsoleClient:
    """Return the browser of a person who entered the password that long ago, or never if None."""
    client = ConsoleClient(**options)
    client.force_login(user)
    session = client.session
    records = session["account_authentication_methods"]
    for record in records:
        record["at"] = time.time() - (seconds_ago or 0)
    session["account_authentication_methods"] = [] if seconds_ago is None else records
    session.save()
    return client


def try_password(email: str, password: str, client: Client | None = None) -> Client:
    """Send the log-in page's form. Returns the browser, which may be logged in now."""
    client = client or ConsoleClient()
    client.post("/accounts/login/", {"login": email, "password": password})
    return client


def owner_client(site: Site, **more: Any) -> Client:
    return log_in(owner_of(site), **more)


def member_client(site: Site, role: str) -> Client:
    """Return the browser of the account's member with this role, who is new if there is none."""
    account = Account.objects.get(id=site.account_id)
    member = account.memberships.filter(role=role).first()
    if member is None:
        user = User.objects.create_user(f"{role}@example.com")
        member = Membership.objects.create(account=account, user=user, role=role)
    return log_in(member.user)


def staff_client(*permissions: str, email: str = "staff@example.com") -> Client:
    """Return the browser of a new staff member with these permissions."""
    user = User.objects.create_user(email, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
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


def text_of(response: Any) -> str:
    """Return a page's source with single spaces, as templates break lines anywhere."""
    return " ".join(response.content.decode().split())

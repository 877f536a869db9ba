"""Where a person is logged in: listed, ended from elsewhere, and expired."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from channels.models import LoginSession, User
from dashboard.login.sessions import device_of
from dashboard.login.store import PAUSE_BETWEEN_WRITES
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

PASSWORD = "correct-horse-battery"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
)
PAGE = "/accounts/sessions/"


@pytest.fixture
def anna() -> User:
    return User.objects.create_user("anna@example.com", PASSWORD)


def browser(user: User, user_agent: str = FIREFOX, address: str = "192.0.2.1") -> Client:
    client = Client(headers={"User-Agent": user_agent}, REMOTE_ADDR=address)
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD, "remember": "on"})
    return client


def is_in(client: Client) -> bool:
    return bool(client.get(PAGE).status_code == 200)


def mark_of(client: Client, device: str) -> str:
    sessions = client.get(PAGE).context["sessions"]
    return next(str(one.mark) for one in sessions if one.device == device)


def test_a_log_in_of_an_earlier_release_stays_one(anna: User) -> None:
    client = browser(anna)
    session = client.session
    session[BACKEND_SESSION_KEY] = "gateway.accounts.backend.PersonBackend"
    session.save()
    assert is_in(client)


# --- The list -------------------------------------------------------------------------------------


def test_sessions_are_listed_with_device_and_address(anna: User) -> None:
    here = browser(anna)
    browser(anna, IPHONE, "2001:db8::7")
    text = here.get(PAGE).content.decode()
    for words in ("Firefox on Linux", "192.0.2.1", "Safari on iPhone", "2001:db8::7"):
        assert words in text
    assert text.count("This browser") == 1
    for row in LoginSession.objects.all():
        assert row.session_key not in text, "it is a password by itself"


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        (FIREFOX, "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 16) Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Lynx on Linux", "A browser on Linux"),
        ("", "A browser"),
        ("<script>alert(1)</script>", "A browser"),
    ],
)
def test_devices_have_names(user_agent: str, device: str) -> None:
    assert device_of(user_agent) == device


def test_another_session_is_ended_at_once(anna: User) -> None:
    here, there = browser(anna), browser(anna, IPHONE)
    assert is_in(there)
    here.post("/accounts/sessions/end/", {"session": mark_of(here, "Safari on iPhone")})
    assert not is_in(there)
    assert is_in(here)


def test_ending_the_session_of_this_browser_is_a_log_out(anna: User) -> None:
    here, there = browser(anna), browser(anna, IPHONE)
    mark = mark_of(here, "Firefox on Linux")
    answer = here.post("/accounts/sessions/end/", {"session": mark})
    assert answer["Location"] == "/accounts/login/"
    assert not is_in(here)
    assert is_in(there)


def test_log_out_everywhere_is_everywhere(anna: User) -> None:
    here, there = browser(anna), browser(anna, IPHONE)
    other = browser(User.objects.create_user("other@example.com", PASSWORD))
    assert here.post("/accounts/sessions/end-all/")["Location"] == "/accounts/login/"
    assert not is_in(here)
    assert not is_in(there)
    assert is_in(other)


def test_a_strangers_session_is_an_unknown_one(anna: User) -> None:
    stranger = browser(User.objects.create_user("stranger@example.com", PASSWORD), IPHONE)
    mark = mark_of(stranger, "Safari on iPhone")
    here = browser(anna)
    answers = [here.post("/accounts/sessions/end/", {"session": one}) for one in (mark, "0" * 32)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert is_in(stranger)
    assert Client().post("/accounts/sessions/end/", {"session": mark}).status_code == 302
    assert is_in(stranger)


def test_a_new_password_ends_the_others(anna: User) -> None:
    here, there = browser(anna), browser(anna, IPHONE)
    new = "another-good-password"
    here.post(
        "/accounts/password/change/",
        {"oldpassword": PASSWORD, "password1": new, "password2": new},
    )
    assert is_in(here)
    assert not is_in(there)
    assert [one.device for one in here.get(PAGE).context["sessions"]] == ["Firefox on Linux"]


def test_a_password_that_somebody_else_sets_ends_all(anna: User) -> None:
    here = browser(anna)
    anna.set_password("another-good-password")
    anna.save()
    assert not is_in(here)
    again = Client(headers={"User-Agent": IPHONE})
    again.post("/accounts/login/", {"login": anna.email, "password": "another-good-password"})
    assert len(again.get(PAGE).context["sessions"]) == 1


def test_sessions_go_with_the_person(anna: User) -> None:
    here = browser(anna)
    EmailAddress.objects.all().delete()
    anna.delete()
    assert not is_in(here)
    assert not LoginSession.objects.exists()


# --- Last seen, and the end -----------------------------------------------------------------------


def test_last_seen_is_written_once_a_minute(anna: User, clock: Any) -> None:
    client = browser(anna)

    def writes() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert is_in(client)
        return sum(query["sql"].startswith("UPDATE") for query in queries.captured_queries)

    clock.shift(PAUSE_BETWEEN_WRITES.total_seconds() - 1)
    assert writes() == 0
    clock.shift(1)
    assert writes() == 1
    assert writes() == 0
    assert LoginSession.objects.get(user=anna).last_seen_at.minute == 1


def test_a_clock_that_ran_ahead_keeps_no_log_in_for_longer(
    anna: User, clock: Any, settings: Any
) -> None:
    settings.LOGIN_IDLE_SECONDS = 3600
    clock.shift(86_400)
    client = browser(anna)
    clock.shift(-86_400)
    assert is_in(client)
    clock.shift(3601)
    assert not is_in(client)


def test_a_log_in_ends_when_nobody_is_seen(anna: User, clock: Any, settings: Any) -> None:
    settings.LOGIN_IDLE_SECONDS = 3600
    used, left = browser(anna), browser(anna, IPHONE)
    for _ in range(3):
        clock.shift(1800)
        assert is_in(used)
    assert not is_in(left)
    call_command("clearsessions")
    assert LoginSession.objects.count() == 1


def test_a_log_in_ends_however_busy_it_is(anna: User, clock: Any, settings: Any) -> None:
    settings.LOGIN_IDLE_SECONDS, settings.LOGIN_LIFETIME_SECONDS = 3600, 7200
    client = browser(anna)
    clock.shift(3500)
    assert is_in(client)
    # A new password changes the session key, not the log-in, so it cannot extend a log-in forever.
    new = "another-good-password"
    client.post(
        "/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new}
    )
    clock.shift(3500)
    assert is_in(client)
    clock.shift(200)
    assert not is_in(client)


def test_shorter_limits_hold_for_log_ins_there_are(anna: User, clock: Any, settings: Any) -> None:
    client = browser(anna)
    clock.shift(600)
    settings.LOGIN_IDLE_SECONDS = 300
    assert not is_in(client)


@pytest.mark.django_db(transaction=True)
def test_requests_at_once_lose_nothing_of_a_session(anna: User, clock: Any) -> None:
    client = browser(anna)
    session = client.session
    session["kept"] = "yes"
    session.save()
    clock.shift(timedelta(minutes=5))
    key = client.cookies[django_settings.SESSION_COOKIE_NAME].value

    def work(_: int) -> int:
        one = Client()
        one.cookies[django_settings.SESSION_COOKIE_NAME] = key
        return one.get(PAGE).status_code

    assert run_in_threads(work, 4) == [200] * 4
    assert client.session["kept"] == "yes"


def test_with_secure_cookies_no_subdomain_can_set_them() -> None:
    # In a separate process, because settings are read only once.
    code = (
        "import json, gateway.settings as s; "
        "print(json.dumps([s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME, s.SESSION_COOKIE_SECURE]))"
    )
    environment = os.environ | {"SECURE_COOKIES": "true"}
    ran = subprocess.run(  # our own interpreter
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout) == ["__Host-sessionid", "__Host-csrftoken", True]

"""Sign-up, verifying an address, log-in with two factors, and what strangers must not learn."""

from __future__ import annotations

import ipaddress
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.contrib.auth.models import AnonymousUser, Permission
from django.core import mail
from django.http import HttpRequest
from django.template.loader import get_template
from django.test import Client, RequestFactory

from billing.models import CreditAccount, LedgerEntry
from channels import accounts
from channels.models import Account, AuditEntry, Membership, User
from dashboard.login import signup
from dashboard.login.recent import is_login_recent, reauthentication_url
from tests.support.clients import ConsoleClient, try_password
from tests.support.threads import run_in_threads

# Codes and attempt counts last for seconds. A frozen clock keeps a test within one period.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock", "forget_attempts")]

PASSWORD = "correct-horse-battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
CREDIT = 1_000_000


def sign_up(email: str = "anna.smith@example.com", client: Client | None = None) -> Client:
    client = client or Client()
    response = client.post("/accounts/signup/", {"email": email, "password1": PASSWORD})
    assert (response.status_code, response["Location"]) == (302, "/accounts/confirm-email/")
    return client


def log_in(email: str, password: str = PASSWORD, client: Client | None = None) -> Client:
    return try_password(email, password, client or Client())


def is_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def link_in_mail(number: int = -1) -> str:
    found = re.search(r"http://testserver(/accounts/\S+)", str(mail.outbox[number].body))
    assert found
    return found[1]


def balance_of(email: str) -> int:
    books = CreditAccount.objects.filter(account__members__email=email).first()
    return books.balance_microcredits if books else 0


# --- Sign-up -------------------------------------------------------------------------------------


def test_signing_up_makes_an_account_and_the_proof_brings_credits() -> None:
    client = sign_up()
    account = Account.objects.get()
    assert account.name == "Anna Smith's account"
    assert Membership.objects.get().role == "owner"
    assert AuditEntry.objects.get().action == "account.created"
    assert not is_in(client)
    assert balance_of("anna.smith@example.com") == 0
    link = link_in_mail()
    assert client.get(link).status_code == 200
    assert balance_of("anna.smith@example.com") == 0
    assert client.post(link)["Location"] == "/"
    assert is_in(client)
    assert balance_of("anna.smith@example.com") == 100 * CREDIT


def test_the_link_alone_logs_nobody_in() -> None:
    sign_up()
    elsewhere = Client()
    elsewhere.post(link_in_mail())
    assert not is_in(elsewhere)
    assert is_in(log_in("anna.smith@example.com"))


def test_credits_come_once() -> None:
    client = sign_up()
    link = link_in_mail()
    for _ in range(3):
        client.post(link)
    signup.grant_credits(User.objects.get())
    assert LedgerEntry.objects.count() == 1
    assert balance_of("anna.smith@example.com") == 100 * CREDIT


def test_credits_come_once_also_when_the_setting_has_changed(settings: Any) -> None:
    client = sign_up()
    client.post(link_in_mail())
    settings.SIGNUP_CREDITS = 500
    signup.grant_credits(User.objects.get())
    assert balance_of("anna.smith@example.com") == 100 * CREDIT


@pytest.mark.django_db(transaction=True)
def test_credits_come_once_from_many_clicks_at_once() -> None:
    sign_up()
    link = link_in_mail()
    run_in_threads(lambda _: Client().post(link).status_code, 4)
    assert LedgerEntry.objects.count() == 1


def test_a_changed_address_brings_no_more_credits() -> None:
    client = sign_up()
    client.post(link_in_mail())
    client.post("/accounts/email/", {"email": "other@example.com", "action_add": "yes"})
    client.post(link_in_mail())
    assert User.objects.get().email == "other@example.com"
    assert balance_of("other@example.com") == 100 * CREDIT
    assert not is_in(log_in("anna.smith@example.com"))
    assert is_in(log_in("other@example.com"))


def test_an_address_of_somebody_else_is_not_taken_over(
    forget_attempts: Callable[[], None],
) -> None:
    sign_up("victim@example.com")
    forget_attempts()
    client = log_in(User.objects.create_user("anna@example.com", PASSWORD).email)
    client.post("/accounts/email/", {"email": "victim@example.com", "action_add": "yes"})
    answer = client.post(link_in_mail(), follow=True)
    assert "belongs to another login" in answer.content.decode()
    assert User.objects.filter(email="victim@example.com").count() == 1
    assert User.objects.filter(email="anna@example.com").exists()


def test_signing_up_twice_looks_the_same_and_tells_the_owner_alone(
    forget_attempts: Callable[[], None],
) -> None:
    first, second = Client(), Client()
    sign_up("Anna@example.com", first)
    sign_up("anna@EXAMPLE.com", second)
    assert User.objects.count() == 1
    assert len(mail.outbox) == 1  # an address gets at most one e-mail a minute
    forget_attempts()
    sign_up("anna@example.com", Client())
    assert "already" in str(mail.outbox[-1].body)
    assert "/password/reset/" in str(mail.outbox[-1].body)


@pytest.mark.django_db(transaction=True)
def test_signing_up_twice_at_once_makes_one_user() -> None:
    def work(_: int) -> str:
        form = {"email": "anna@example.com", "password1": PASSWORD}
        return str(Client().post("/accounts/signup/", form)["Location"])

    assert set(run_in_threads(work, 4)) == {"/accounts/confirm-email/"}
    assert (User.objects.count(), Account.objects.count()) == (1, 1)


def test_sign_up_can_be_closed(settings: Any) -> None:
    settings.ALLOW_SIGNUP = False
    for response in (
        Client().get("/accounts/signup/"),
        Client().post("/accounts/signup/", {"email": "a@example.com", "password1": PASSWORD}),
    ):
        assert "Sign-up is closed" in response.content.decode()
    assert not User.objects.exists()
    assert "/accounts/signup/" not in Client().get("/accounts/login/").content.decode()


def test_a_weak_password_is_refused_beside_the_field() -> None:
    response = Client().post("/accounts/signup/", {"email": "a@example.com", "password1": "123"})
    assert "too short" in response.content.decode()
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("email", "name"),
    [
        ("anna.smith@example.com", "Anna Smith's account"),
        ("anna+shop@example.com", "Anna's account"),
        ("McCoy_j@example.com", "McCoy J's account"),
        ("+@example.com", "+@example.com's account"),
    ],
)
def test_accounts_are_named_after_people(email: str, name: str) -> None:
    assert signup.name_for(email) == name


# --- Users that the operator creates -------------------------------------------------------------


def test_who_a_command_makes_chooses_a_password_and_comes_in() -> None:
    accounts.ensure_account(owner_email="Shop@Example.com")
    client = ConsoleClient()
    client.post("/accounts/password/reset/", {"email": "shop@example.com"})
    page = client.get(link_in_mail())["Location"]
    client.post(page, {"password1": PASSWORD, "password2": PASSWORD})
    assert is_in(log_in("shop@example.com"))


def test_a_reset_link_proves_the_address() -> None:
    sign_up()
    client = ConsoleClient()
    client.post("/accounts/password/reset/", {"email": "anna.smith@example.com"})
    page = client.get(link_in_mail())["Location"]
    new = "another-good-password"
    client.post(page, {"password1": new, "password2": new})
    assert EmailAddress.objects.get().verified
    assert balance_of("anna.smith@example.com") == 100 * CREDIT
    assert is_in(log_in("anna.smith@example.com", new))


def test_an_unknown_address_is_answered_like_a_known_one() -> None:
    User.objects.create_user("anna@example.com", PASSWORD)
    answers = [
        Client().post("/accounts/password/reset/", {"email": email}, follow=True).content.decode()
        for email in ("anna@example.com", "nobody@example.com")
    ]
    # The form that chooses a language has another secret for each browser.
    first, second = (re.sub(r'(?<=csrfmiddlewaretoken" value=")\w+', "", one) for one in answers)
    assert first == second
    assert "Nobody has signed up" in str(mail.outbox[-1].body)


def test_without_a_mail_server_pages_say_where_links_are(settings: Any) -> None:
    pages = ("/accounts/confirm-email/", "/accounts/password/reset/done/")
    hint = "the link is in the server's log"
    for page in pages:
        assert hint not in Client().get(page).content.decode()
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    for page in pages:
        assert hint in Client().get(page).content.decode()


def test_without_a_mail_server_the_link_is_written_whole(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    client = sign_up()
    found = re.search(r"http://testserver(/accounts/confirm-email/\S+)", capsys.readouterr().out)
    assert found
    client.post(found[1])
    assert is_in(client)


def test_a_mail_server_that_is_away_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: object) -> None:
        raise ConnectionRefusedError("anna@example.com")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", fail)
    client = sign_up("anna@example.com")
    assert "could not send the e-mail" in client.get("/accounts/confirm-email/").content.decode()
    lost = [record for record in caplog.records if record.message == "accounts.mail.not_sent"]
    assert len(lost) == 1
    assert "anna@example.com" not in str(vars(lost[0]))


# --- Two factors ---------------------------------------------------------------------------------


def code_now(secret: str = SECRET) -> str:
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30)))


@pytest.fixture
def guarded() -> User:
    """A staff member with an authenticator app and recovery codes."""
    user = User.objects.create_superuser("staff@example.com", PASSWORD)
    TOTP.activate(user, SECRET)
    RecoveryCodes.activate(user)
    return user


def test_the_password_alone_opens_neither_door(guarded: User) -> None:
    client = log_in(guarded.email)
    assert not is_in(client)
    assert client.get("/admin/").status_code == 302
    assert client.get("/").status_code == 302
    page = client.get("/accounts/2fa/authenticate/")
    assert page.status_code == 200
    wrong = client.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert "The code is wrong" in wrong.content.decode()
    assert not is_in(client)


def test_password_and_code_open_both(guarded: User) -> None:
    client = log_in(guarded.email)
    client.post("/accounts/2fa/authenticate/", {"code": code_now()})
    assert is_in(client)
    assert client.get("/admin/").status_code == 200
    again = log_in(guarded.email)
    again.post("/accounts/2fa/authenticate/", {"code": code_now()})
    assert not is_in(again), "a code is taken once"


def test_a_code_is_taken_once_by_processes_that_share_no_memory(
    guarded: User, forget_attempts: Callable[[], None]
) -> None:
    code = code_now()
    first, second = log_in(guarded.email), log_in(guarded.email)
    first.post("/accounts/2fa/authenticate/", {"code": code})
    assert is_in(first)
    forget_attempts()
    # With or without the space.
    answer = second.post("/accounts/2fa/authenticate/", {"code": f"{code[:3]} {code[3:]}"})
    assert "The code is wrong" in answer.content.decode()
    assert not is_in(second)


@pytest.mark.django_db(transaction=True)
def test_a_code_is_taken_once_by_many_at_once(
    settings: Any, forget_attempts: Callable[[], None]
) -> None:
    # Disable allauth's own memory of used codes, as if each request hit another process.
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    user = User.objects.create_user("anna@example.com", PASSWORD)
    TOTP.activate(user, SECRET)
    clients = [log_in(user.email) for _ in range(4)]
    code = code_now()
    run_in_threads(lambda n: clients[n].post("/accounts/2fa/authenticate/", {"code": code}), 4)
    assert sum(map(is_in, clients)) == 1


def test_the_code_that_set_up_the_app_opens_nothing_after_it() -> None:
    user = User.objects.create_user("anna@example.com", PASSWORD)
    client = log_in(user.email)
    page = client.get("/accounts/2fa/totp/activate/").content.decode()
    found = re.search(r'id="authenticator_secret" value="([A-Z2-7]+)"', page)
    assert found
    code = code_now(found[1])
    client.post("/accounts/2fa/totp/activate/", {"code": code})
    assert Authenticator.objects.filter(user=user, type="totp").exists()
    other = log_in(user.email)
    other.post("/accounts/2fa/authenticate/", {"code": code})
    assert not is_in(other)


def test_a_recovery_code_opens_once(guarded: User) -> None:
    codes = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()
    client = log_in(guarded.email)
    client.post("/accounts/2fa/authenticate/", {"code": codes[0]})
    assert is_in(client)
    again = log_in(guarded.email)
    again.post("/accounts/2fa/authenticate/", {"code": codes[0]})
    assert not is_in(again)


def test_the_apps_secret_is_set_up_by_its_owner_and_kept_encrypted() -> None:
    user = User.objects.create_user("anna@example.com", PASSWORD)
    client = log_in(user.email)
    page = client.get("/accounts/2fa/totp/activate/").content.decode()
    found = re.search(r'id="authenticator_secret" value="([A-Z2-7]+)"', page)
    assert found
    client.post("/accounts/2fa/totp/activate/", {"code": code_now(found[1])})
    stored = Authenticator.objects.get(user=user, type="totp")
    assert found[1] not in str(stored.data)
    assert "10 of 10" in client.get("/accounts/2fa/recovery-codes/").content.decode()
    assert not is_in(log_in(user.email))


def test_djangos_own_log_in_form_takes_nobody(guarded: User) -> None:
    form = {"username": guarded.email, "email": guarded.email, "password": PASSWORD}
    stranger = ConsoleClient()
    assert stranger.post("/admin/login/", form)["Location"].startswith("/accounts/login/")
    assert not is_in(stranger)
    # Nor through the session of a colleague without a second factor.
    colleague = User.objects.create_superuser("colleague@example.com", PASSWORD)
    client = log_in(colleague.email)
    client.post("/admin/login/", form)
    assert client.session["_auth_user_id"] == str(colleague.id)


def test_staff_change_their_password_where_attempts_are_counted(admin_client: Client) -> None:
    assert admin_client.get("/admin/password_change/")["Location"] == "/accounts/password/change/"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/",
        "//evil.test/",
        "javascript:alert(1)",
        "http://localhost/",
        "/\\\\x.test",
    ],
)
def test_log_in_leads_nowhere_else(url: str) -> None:
    User.objects.create_superuser("anna@example.com", PASSWORD)
    form = {"login": "anna@example.com", "password": PASSWORD, "next": url}
    client = ConsoleClient()
    assert client.post("/accounts/login/", form)["Location"] == "/"
    assert client.get("/admin/login/", {"next": url})["Location"] == "/admin/"
    assert client.get("/admin/login/", {"next": "/admin/auth/"})["Location"] == "/admin/auth/"


# --- Guessing ------------------------------------------------------------------------------------


def some_address() -> str:
    """Return an address that no test has used, because Redis remembers those of earlier runs."""
    return str(ipaddress.IPv6Address(uuid.uuid4().int))


def attempt(email: str, password: str, address: str, host: str = "testserver") -> str:
    client = ConsoleClient()
    response = client.post(
        "/accounts/login/",
        {"login": email, "password": password},
        headers={"X-Forwarded-For": address, "Host": host},
    )
    if response.status_code == 302:
        return "in" if is_in(client) else "more"
    text = response.content.decode()
    return "wait" if response.status_code == 429 or "Too many attempts" in text else "wrong"


def test_a_guessed_name_waits_wherever_it_comes_from(settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    User.objects.create_user("anna@example.com", PASSWORD)
    tries = [
        attempt("anna@example.com", "wrong", some_address(), f"localhost:{port}")
        for port in range(1, 7)
    ]
    assert tries == ["wrong"] * 5 + ["wait"]
    assert attempt("Anna@example.com", PASSWORD, some_address()) == "wait"


def test_an_address_waits_whomever_it_tries(settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    User.objects.create_user("anna@example.com", PASSWORD)
    address = some_address()
    tries = [attempt(f"{n}@example.com", "wrong", address) for n in range(11)]
    assert tries == ["wrong"] * 10 + ["wait"]
    assert attempt("anna@example.com", PASSWORD, address) == "wait"
    assert attempt("anna@example.com", PASSWORD, some_address()) == "in"


def test_codes_cannot_be_guessed_either(guarded: User) -> None:
    client = log_in(guarded.email)
    for code in range(5):
        client.post("/accounts/2fa/authenticate/", {"code": f"{code:06}"})
    answer = client.post("/accounts/2fa/authenticate/", {"code": code_now()})
    assert not is_in(client)
    assert "Too many attempts" in answer.content.decode()


# --- Pages ---------------------------------------------------------------------------------------

OPEN_PAGES = ["login/", "signup/", "password/reset/", "password/reset/done/", "inactive/"]
OPEN_PAGES += ["password/reset/key/done/", "password/reset/key/1-x/", "confirm-email/"]
OPEN_PAGES += ["confirm-email/x/"]
OWN_PAGES = ["password/change/", "email/", "logout/", "2fa/", "2fa/totp/activate/"]
OWN_PAGES += ["2fa/webauthn/", "2fa/webauthn/add/", "reauthenticate/"]


@pytest.mark.parametrize("page", OPEN_PAGES + OWN_PAGES)
def test_pages_hold_nothing_that_the_policy_forbids(page: str) -> None:
    client = ConsoleClient()
    if page in OWN_PAGES:
        log_in(User.objects.create_user("anna@example.com", PASSWORD).email, client=client)
    response = client.get(f"/accounts/{page}")
    text = response.content.decode()
    assert response.status_code == 200
    assert "dashboard/accounts.css" in text
    assert "unsafe" not in response["Content-Security-Policy"]
    for script in re.findall(r"<script\b[^>]*>", text):
        assert "src=" in script or 'type="application/json"' in script
    assert not re.search(r'\s(style|on[a-z]+)="', text)


def test_every_template_of_ours_compiles() -> None:
    root = Path(__file__).parents[2] / "templates"
    for folder in ("account", "mfa", "allauth", "public", "emails"):
        for path in (root / folder).rglob("*.*"):
            get_template(str(path.relative_to(root)))


def test_mailed_links_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gateway.access")
    client = sign_up()
    link = link_in_mail()
    client.post(link)
    client.get("/join/a-very-secret-link/")
    paths = [getattr(record, "path", "") for record in caplog.records]
    assert "/accounts/confirm-email/…/" in paths
    assert "/join/…/" in paths
    assert link not in paths


# --- Recent log-ins ------------------------------------------------------------------------------


def test_an_old_log_in_is_asked_again(clock: Any) -> None:
    client = log_in(User.objects.create_user("anna@example.com", PASSWORD).email)
    assert client.get("/accounts/2fa/totp/activate/").status_code == 200
    clock.shift(16 * 60)
    asked = client.get("/accounts/2fa/totp/activate/")
    assert asked["Location"].startswith("/accounts/reauthenticate/?next=")
    wrong = client.post(asked["Location"], {"password": "wrong"})
    assert "The password is wrong" in wrong.content.decode()
    back = client.post(asked["Location"], {"password": PASSWORD})
    assert back["Location"] == "/accounts/2fa/totp/activate/"
    assert client.get(back["Location"]).status_code == 200


def test_who_has_just_signed_up_is_not_asked_for_the_password_again() -> None:
    client = sign_up()
    client.post(link_in_mail())
    assert client.get("/accounts/2fa/totp/activate/").status_code == 200


def test_a_log_in_is_recent_by_its_own_session(rf: RequestFactory, clock: Any) -> None:
    user = User.objects.create_user("anna@example.com", PASSWORD)

    def request_of(client: Client) -> HttpRequest:
        request = rf.get("/keys/?page=2")
        request.user, request.session = user, client.session
        return request

    old = log_in(user.email)
    clock.shift(16 * 60)
    new = log_in(user.email)
    assert is_login_recent(request_of(new))
    assert not is_login_recent(request_of(old))
    clock.shift(-5 * 3600)  # it ran ahead and is corrected: log-ins from then are not recent
    assert not is_login_recent(request_of(new))
    clock.shift(5 * 3600)
    url = reauthentication_url(request_of(old), next_url="/keys/?page=2")
    assert url == "/accounts/reauthenticate/?next=%2Fkeys%2F%3Fpage%3D2"
    anonymous = rf.get("/")
    anonymous.user, anonymous.session = AnonymousUser(), Client().session
    assert not is_login_recent(anonymous)


# --- What staff see ------------------------------------------------------------------------------


def test_superusers_alone_remove_a_lost_second_factor(guarded: User) -> None:
    factor = Authenticator.objects.get(type="totp")
    page = f"/admin/mfa/authenticator/{factor.id}/delete/"
    helper = User.objects.create_user("helper@example.com", PASSWORD, is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(content_type__app_label="mfa"))
    assert log_in(helper.email).post(page, {"post": "yes"}).status_code == 403
    boss = User.objects.create_superuser("boss@example.com", PASSWORD)
    assert log_in(boss.email).post(page, {"post": "yes"}).status_code == 302
    assert not Authenticator.objects.filter(id=factor.id).exists()
    assert is_in(log_in(guarded.email))

"""Pages and e-mails speak the person's language; the API, logs, and commands speak English."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.mail import send_mail
from django.core.management import call_command
from django.template import Context, Template
from django.test import Client
from django.utils import formats, translation

from billing import warnings as credit_warnings
from billing.models import CreditAccount
from channels.models import Membership, User
from channels.tests.factories import Site
from common import languages
from common.pages import dates, durations, numbers
from tests.support.clients import ApiClient, log_in

pytestmark = pytest.mark.django_db

GERMAN = {"Accept-Language": "de"}


@pytest.fixture(autouse=True)
def _german_is_offered(settings: Any) -> None:
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]


@pytest.fixture
def owner(site: Site) -> User:
    return Membership.objects.get(account=site.channel.account).user


def language_of(response: Any) -> str:
    text: str = response.content.decode()
    return text.partition('<html lang="')[2].partition('"')[0]


def said_by(response: Any) -> Any:
    """Return a JSON answer without the id of its request."""
    return {name: value for name, value in response.json().items() if name != "request_id"}


# --- Which language -----------------------------------------------------------------------------


def test_the_browser_decides_until_somebody_chooses(client: Client) -> None:
    assert language_of(client.get("/accounts/login/")) == "en"
    page = client.get("/accounts/login/", headers=GERMAN)
    assert language_of(page) == "de"
    assert page["Content-Language"] == "de"
    assert "Accept-Language" in page["Vary"]
    client.post("/accounts/language/", {"language": "en", "next": "/accounts/login/"})
    assert language_of(client.get("/accounts/login/", headers=GERMAN)) == "en"


def test_a_language_in_work_is_not_offered(client: Client, settings: Any) -> None:
    settings.LANGUAGES = [("en", "English")]
    page = client.get("/accounts/login/", headers=GERMAN)
    assert language_of(page) == "en"
    assert "/accounts/language/" not in page.content.decode()


def test_a_choice_follows_the_person_to_another_browser(owner: User, client: Client) -> None:
    owner.set_password("the password 1")
    owner.save()
    log_in(owner).post("/accounts/language/", {"language": "de", "next": "/"})
    owner.refresh_from_db()
    assert owner.language == "de"
    client.post("/accounts/login/", {"login": owner.email, "password": "the password 1"})
    assert client.cookies["language"].value == "de"
    assert language_of(client.get("/accounts/mails/")) == "de"


def test_an_unknown_language_is_neither_kept_nor_set(owner: User) -> None:
    client = log_in(owner)
    client.post("/accounts/language/", {"language": "<b>", "next": "/"})
    owner.refresh_from_db()
    assert owner.language == ""
    assert "language" not in client.cookies


def test_a_choice_leads_back_but_not_to_another_site(client: Client) -> None:
    form = {"language": "de", "next": "https://evil.test/"}
    assert client.post("/accounts/language/", form)["Location"] == "/"
    assert client.get("/accounts/language/").status_code == 405


def test_a_choice_needs_the_forms_secret(owner: User) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/accounts/language/", {"language": "de"}).status_code == 403


def test_a_stranger_chooses_without_a_token_on_our_pages_alone(owner: User) -> None:
    """Who only reads gets no cookie, so their form has no token; browsers say where it is."""
    stranger = Client(enforce_csrf_checks=True)
    for path in ("/docs/", "/", "/nothing/"):
        assert not stranger.get(path).cookies
    here, form = "http://testserver", {"language": "de", "next": "/docs/"}
    chosen = stranger.post("/accounts/language/", form, headers={"Origin": here})
    assert chosen["Location"] == "/docs/"
    assert set(stranger.cookies) == {"language"}
    assert language_of(stranger.get("/docs/")) == "de"
    for elsewhere in ("https://evil.test", "null", "http://testserver.evil.test", ""):
        answer = stranger.post("/accounts/language/", form, headers={"Origin": elsewhere})
        assert answer.status_code == 403
    # Whoever is logged in needs the token, since the choice is kept with them.
    somebody = Client(enforce_csrf_checks=True)
    somebody.force_login(owner)
    answer = somebody.post("/accounts/language/", form, headers={"Origin": here})
    assert answer.status_code == 403
    token = somebody.get("/docs/").cookies["csrftoken"].value
    form["csrfmiddlewaretoken"] = token
    assert somebody.post("/accounts/language/", form).status_code == 302


def test_every_page_offers_the_choice(owner: User, client: Client) -> None:
    boss = User.objects.create_superuser("boss@example.com")
    for page in (
        client.get("/accounts/login/"),
        client.get("/docs/"),
        log_in(owner).get("/", follow=True),
        log_in(owner).get("/accounts/mails/"),
        log_in(boss).get("/admin/"),
    ):
        assert 'lang="de">Deutsch</button>' in page.content.decode()


def test_whoever_signs_up_keeps_the_language_they_chose(client: Client) -> None:
    client.post("/accounts/language/", {"language": "de", "next": "/"})
    form = {"email": "new@example.com", "password1": "a long password 1"}
    client.post("/accounts/signup/", form)
    assert User.objects.get(email="new@example.com").language == "de"


# --- What stays English -------------------------------------------------------------------------


def test_the_api_speaks_english_whoever_asked_before(site: Site, client: Client) -> None:
    english = ApiClient(site.api_key).post("/api/chat", {"message": ""})
    client.get("/accounts/login/", headers=GERMAN)
    assert translation.get_language() == "en", "the thread speaks English again"
    german = ApiClient(site.api_key).post("/api/chat", {"message": ""}, headers=GERMAN)
    assert german.status_code == english.status_code == 400
    assert german.json()["error"] == english.json()["error"]
    for path in ("/healthz", "/api/nothing", "/v1/models"):
        told = client.get(path, headers=GERMAN)
        assert told.headers["Content-Type"] == client.get(path).headers["Content-Type"]
        assert said_by(told) == said_by(client.get(path))
        assert "Content-Language" not in told.headers
        assert "Accept-Language" not in told.headers.get("Vary", "")


def test_logs_and_commands_stay_english(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO):
        client.post("/accounts/login/", {"login": "a@b.example", "password": "x"}, headers=GERMAN)
    assert "login.failed" in caplog.text
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    out = StringIO()
    call_command("check", stdout=out)
    assert "System check identified no issues" in out.getvalue()


def test_pages_that_break_leave_the_thread_in_english(client: Client) -> None:
    assert client.get("/nothing/", headers=GERMAN).status_code == 404
    assert translation.get_language() == "en"


# --- E-mails ------------------------------------------------------------------------------------


def test_an_email_is_written_once_for_each_language(
    site: Site, owner: User, mailoutbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = site.channel.account
    User.objects.filter(pk=owner.pk).update(language="de")
    second = User.objects.create_user("second@example.com")
    Membership.objects.create(account=account, user=second, role=Membership.Role.OWNER)
    CreditAccount.objects.filter(account=account).update(
        low_balance_microcredits=10**15 - 1, warned=0
    )
    spoken = []

    def send(*arguments: Any) -> Any:
        spoken.append(translation.get_language())
        return send_mail(*arguments)

    monkeypatch.setattr("billing.warnings.send_mail", send)
    assert credit_warnings.warn_of_low_balances() == 1
    assert sorted(spoken) == ["de", "en"]
    assert sorted(mail.to for mail in mailoutbox) == [[owner.email], ["second@example.com"]]
    german = next(mail for mail in mailoutbox if mail.to == [owner.email])
    assert "999.999.999,999999" in german.body
    assert translation.get_language() == "en"


def test_unknown_languages_count_as_english() -> None:
    people = [("a@x.example", "de"), ("b@x.example", ""), ("c@x.example", "xx")]
    assert languages.group_by_language(people) == {
        "de": ["a@x.example"],
        "en": ["b@x.example", "c@x.example"],
    }


# --- Numbers and dates --------------------------------------------------------------------------


def test_numbers_and_dates_are_written_by_language() -> None:
    moment = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
    page = Template(
        "{% load prices humanize %}{{ m|date:'j M Y, H:i' }} {{ c|credits }} {{ n|intcomma }}"
    )
    values = Context({"m": moment, "c": 1_234_500_000, "n": 1234})
    assert page.render(values) == "5 Mar 2026, 14:30 1,234.5 1,234"
    assert numbers.short_number(21_100) == "21.1\N{NO-BREAK SPACE}k"
    assert durations.duration(1_250_000) == "1,250\N{NO-BREAK SPACE}s"
    with languages.speaking("de"):
        assert page.render(values) == "5. Mär 2026, 14:30 1.234,5 1.234"
        assert numbers.short_number(21_100) == "21,1\N{NO-BREAK SPACE}k"
        assert durations.duration(12_500) == "12,5\N{NO-BREAK SPACE}s"
        assert dates.show(date(2026, 3, 5), "j M Y") == "5. Mär 2026"


@pytest.mark.parametrize("language", ["en", "de"])
def test_date_fields_hold_what_browsers_read(language: str) -> None:
    with translation.override(language):
        for kind, form in (("DATE", "%Y-%m-%d"), ("DATETIME", "%Y-%m-%d %H:%M:%S")):
            assert formats.get_format(f"{kind}_INPUT_FORMATS")[0] == form
        assert formats.localize_input(date(2026, 3, 5)) == "2026-03-05"


def test_scripts_get_their_texts_in_german_alone(client: Client, settings: Any) -> None:
    assert "dashboard/texts/" not in client.get("/accounts/login/").content.decode()
    page = client.get("/accounts/login/", headers=GERMAN).content.decode()
    assert page.index("dashboard/texts/de.js") < page.index("dashboard/dashboard.js")
    assert "unsafe" not in client.get("/accounts/login/", headers=GERMAN)["Content-Security-Policy"]

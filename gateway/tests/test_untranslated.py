"""No page, e-mail, or script shows a text that a translator never sees.

Each is rendered in a language that puts marks around what is translated; what has letters outside
the marks and is no data fails. `pytest -rP gateway/tests/test_untranslated.py -k console:usage`
prints what is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings as django_settings
from django.contrib import admin
from django.core import mail
from django.db import transaction
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import trans_real

import gateway.urls  # noqa: F401  # registers what the staff admin shows
from billing import credit_request_mails, spend_cap_alerts
from billing import warnings as credit_warnings
from billing.models import CreditAccount, CreditRequest, SpendCap
from channels import model_mails, person_mails, team
from channels import routes as channels_routes
from channels.audit import Actor
from channels.models import LanguageModel, ModelNotice, PersonMail, Route, User
from dashboard.staff import urls as staff_urls
from dashboard.tests.test_strangers import IDS, Tenant, address_of
from gateway.tests.test_hostile_text import make_full_tenant
from gateway.tests.test_policies import CONSOLE
from tests.support import pseudo_language
from tests.support.clients import log_in
from tests.support.fake_provider import FakeProvider

LANGUAGE = "de"
pytestmark = pytest.mark.any_database
SCRIPTS = Path(django_settings.BASE_DIR) / "dashboard" / "static" / "dashboard"
OWN = (
    "account_change_password", "account_email", "account_logout", "account_mails",
    "account_reauthenticate", "account_sessions", "mfa_activate_totp",
    "mfa_deactivate_totp", "mfa_edit_webauthn", "mfa_generate_recovery_codes", "mfa_index",
    "mfa_list_webauthn", "mfa_reauthenticate", "mfa_remove_webauthn", "mfa_view_recovery_codes",
)  # fmt: skip
PUBLIC = (
    "account_login", "account_signup", "account_reset_password", "account_reset_password_done",
    "account_reset_password_from_key_done", "account_email_verification_sent", "account_inactive",
    "account_set_password", "mfa_authenticate", "docs", "join",
)  # fmt: skip
MODEL_PAGES = ("changelist", "add", "change", "history", "delete")
MODELS = [f"{one._meta.app_label}_{one._meta.model_name}" for one in admin.site._registry]
PAGES = [
    *(f"{who}:{page.name}" for who in ("console", "viewer") for page in CONSOLE
      if page.name != "logout"),
    *(f"admin:{page.name}" for page in staff_urls.urlpatterns),
    "admin:index",
    *(f"admin:{model}_{page}" for model in MODELS for page in MODEL_PAGES),
    *(f"own:{page}" for page in OWN),
    *(f"public:{page}" for page in PUBLIC),
    "public:join_link", "public:confirm_email", "public:404",
]  # fmt: skip
PAGES = list(dict.fromkeys(PAGES))


class Site:
    """A site with a row of everything, whose pages are rendered when a test asks."""

    def __init__(self, provider: FakeProvider) -> None:
        self.tenant: Tenant = make_full_tenant(provider)
        owner = self.tenant.people["owner"]
        sent = team.invite(
            account=self.tenant.account, email="c@d.example", role=team.Role.VIEWER,
            actor=Actor("", owner),
        )  # fmt: skip
        self.secret = sent.secret
        boss = User.objects.create_superuser("boss@example.com")
        self.clients = {
            "console": log_in(owner),
            "own": log_in(owner),
            "viewer": log_in(self.tenant.people["viewer"]),
            "admin": log_in(boss),
            "public": Client(),
        }
        self.data = pseudo_language.data_pattern(
            (django_settings.SITE_NAME, django_settings.CURRENCY, "Deutsch", "English")
        )

    def path_of(self, page: str) -> str:
        who, _, name = page.partition(":")
        values = {id_name: find(self.tenant) for id_name, (find, _) in IDS.items()}
        if who in ("console", "viewer"):
            return address_of(next(one for one in CONSOLE if one.name == name), values)
        if who == "admin":
            return self._admin_path(name, values)
        special = {"join_link": f"/join/{self.secret}/", "404": "/nothing/",
                   "confirm_email": "/accounts/confirm-email/x/"}  # fmt: skip
        if name in special:
            return special[name]
        with_key = name in ("mfa_edit_webauthn", "mfa_remove_webauthn")
        key = Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN).values_list("pk")
        return reverse(name, args=key[0] if with_key else ())

    def _admin_path(self, name: str, values: dict[str, Any]) -> str:
        pattern = next((one for one in staff_urls.urlpatterns if one.name == name), None)
        if pattern is not None:
            values |= {"route_id": Route.objects.all()[0].pk}
            values |= {"request_id": CreditRequest.objects.all()[0].pk}
            return "/admin" + address_of(pattern, values)
        if name == "index":
            return "/admin/"
        label, _, kind = name.rpartition("_")
        found = (one for one in admin.site._registry
                 if f"{one._meta.app_label}_{one._meta.model_name}" == label)  # fmt: skip
        pk = next(found)._base_manager.values_list("pk", flat=True)[0]
        return reverse(f"admin:{name}", args=[pk] if kind in MODEL_PAGES[2:] else [])

    def untranslated_on(self, page: str) -> list[str]:
        """Return what a page shows untranslated, also after its forms are sent empty."""
        client, path = self.clients[page.partition(":")[0]], self.path_of(page)
        found = []
        for deed in (
            lambda: client.get(path, headers={"Accept-Language": LANGUAGE}),
            lambda: client.post(path, {}, follow=True, headers={"Accept-Language": LANGUAGE}),
        ):
            with transaction.atomic():
                found += self._look(deed())  # type: ignore[no-untyped-call]
                transaction.set_rollback(True)
        return list(dict.fromkeys(found))

    def _look(self, response: Any) -> list[str]:
        kind = response.get("Content-Type", "").partition(";")[0]
        if response.streaming or kind not in ("text/html", "application/json"):
            return []
        if kind == "application/json":
            return pseudo_language.untranslated_in_json(response.json(), self.data)
        return pseudo_language.untranslated_in(response.content.decode(), self.data)


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Keep one transaction for all tests here, in place of pytest-django's for each test.

    The site takes longer to make than a page to render. It has pytest-django's name, because that
    creates the database only for tests that ask for it by this name.
    """
    with django_db_blocker.unblock(), transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture(scope="module")
def world(db: None) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        provider = FakeProvider()
        original = channels_routes.list_routes
        patch.setattr(
            channels_routes, "list_routes",
            lambda caller, **more: original(caller, **more) if caller.is_test else [provider],
        )  # fmt: skip
        # The site's passkey has no real credential, which the page that adds another would read.
        patch.setattr("allauth.mfa.webauthn.internal.auth.get_credentials", lambda user: [])
        yield Site(provider)


@pytest.fixture
def marked(world: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    languages = [("en", "English"), (LANGUAGE, "Deutsch")]
    with override_settings(LANGUAGES=languages):
        # After the settings, whose change makes Django forget what it has loaded.
        marks = pseudo_language.Marked(LANGUAGE)
        monkeypatch.setitem(trans_real._translations, LANGUAGE, marks)  # type: ignore[attr-defined]
        yield world


def check(name: str, found: list[str]) -> None:
    print("\n".join(found))
    assert not found, f"{name} shows what no translator sees"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_only_what_translators_see(name: str, marked: Site) -> None:
    check(name, marked.untranslated_on(name))


# --- E-mails ------------------------------------------------------------------------------------


def _ask_for_credits(site: Site) -> None:
    CreditRequest.objects.update(unsent_mail=CreditRequest.Mail.TO_STAFF)
    credit_request_mails.send_due()


def _decide_on_credits(site: Site) -> None:
    for state in (CreditRequest.State.APPROVED, CreditRequest.State.DECLINED):
        CreditRequest.objects.update(
            unsent_mail=CreditRequest.Mail.TO_ASKER,
            state=state,
            granted_microcredits=1 if state == CreditRequest.State.APPROVED else None,
            decided_at=timezone.now(),
        )
        credit_request_mails.send_due()


def _warn_of_credits(site: Site) -> None:
    for low in (0, 10**15 - 1):
        CreditAccount.objects.update(low_balance_microcredits=low, warned=0)
        credit_warnings.warn_of_low_balances()
    CreditAccount.objects.update(warned=0, balance_microcredits=0, held_microcredits=0)
    credit_warnings.warn_of_low_balances()


def _reach_a_cap(site: Site) -> None:
    SpendCap.objects.update(day_limit_microcredits=10**9, day_left_microcredits=0, day_alerted=0)
    spend_cap_alerts.alert_of_spend_caps(now=timezone.now())


def _tell_of_safety(site: Site) -> None:
    owner, account = site.tenant.people["owner"], site.tenant.account
    PersonMail.objects.all().delete()
    owner.refresh_from_db()  # the language was set in the database
    key = Actor("", owner, "192.0.2.7")
    person_mails.tell_of_key(account_id=account.pk, key="amgai_…1234", actor=key)
    member = User.objects.create_user("new@example.com")
    person_mails.tell_of_member(account_id=account.pk, member=member, role="viewer", actor=key)
    person_mails.tell_of_device(user=owner, device="Firefox", address="192.0.2.7")
    person_mails.send_due(now=timezone.now())


def _retire_a_model(site: Site) -> None:
    ModelNotice.objects.all().delete()
    LanguageModel.objects.filter(pk=site.tenant.site.channel.model_id).update(
        ends_on=timezone.now().date()
    )
    model_mails.send_model_mails(now=timezone.now())


def _invite(site: Site) -> None:
    site.clients["console"].post(
        f"/a/{site.tenant.account.pk}/team/invite/", {"email": "e@f.example", "role": "viewer"},
        headers={"Accept-Language": LANGUAGE},
    )  # fmt: skip


def _use_the_log_in(site: Site) -> None:
    client = Client(headers={"Accept-Language": LANGUAGE})
    form = {"email": "newest@example.com", "password1": "a long password 1"}
    client.post("/accounts/signup/", form)
    client.post("/accounts/signup/", form | {"email": site.tenant.people["owner"].email})
    for address in ("nobody@example.com", site.tenant.people["owner"].email):
        client.post("/accounts/password/reset/", {"email": address})


def _change_the_log_in(site: Site) -> None:
    for prefix in ("account/email/password_changed", "account/email/password_set",
                   "account/email/password_reset", "account/email/email_changed",
                   "account/email/email_deleted", "mfa/email/totp_activated",
                   "mfa/email/totp_deactivated", "mfa/email/webauthn_added",
                   "mfa/email/webauthn_removed", "mfa/email/recovery_codes_generated"):  # fmt: skip
        from allauth.account.adapter import get_adapter

        context = {"user": site.tenant.people["owner"], "timestamp": timezone.now(), "ip": "::1",
                   "user_agent": "Firefox", "from_email": "a@b.example", "to_email": "c@d.example",
                   "deleted_email": "a@b.example"}  # fmt: skip
        message = get_adapter().render_mail(prefix, "a@b.example", context)
        mail.outbox.append(message)


MAILS: dict[str, Callable[[Site], None]] = {
    "credit_request": _ask_for_credits,
    "credit_decision": _decide_on_credits,
    "low_credits": _warn_of_credits,
    "spend_cap": _reach_a_cap,
    "safety": _tell_of_safety,
    "model_end": _retire_a_model,
    "invitation": _invite,
    "log_in": _use_the_log_in,
    "log_in_changes": _change_the_log_in,
}


@pytest.mark.parametrize("kind", MAILS, ids=[f"mail:{kind}" for kind in MAILS])
def test_an_email_says_only_what_translators_see(
    kind: str, marked: Site, settings: Any, mailoutbox: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    with transaction.atomic():
        User.objects.update(language=LANGUAGE)
        with translation.override(LANGUAGE):
            MAILS[kind](marked)
        transaction.set_rollback(True)
    assert mailoutbox, "no e-mail was sent"
    data = re.compile(rf"{marked.data.pattern}|\w+@[\w.]+|amgai_\S+|Firefox")
    found = [
        line
        for sent in mailoutbox
        for text in (sent.subject, sent.body)
        for line in pseudo_language.untranslated_in_text(text, data)
    ]
    check(f"mail:{kind}", list(dict.fromkeys(found)))


# --- Scripts ------------------------------------------------------------------------------------


SCRIPT_NAMES = sorted(path.name for path in SCRIPTS.glob("*.js"))


@pytest.mark.parametrize("name", SCRIPT_NAMES, ids=[f"script:{name}" for name in SCRIPT_NAMES])
def test_a_script_says_only_what_translators_see(name: str) -> None:
    source = (SCRIPTS / name).read_text()
    check(f"script:{name}", pseudo_language.untranslated_in_script(source))


def test_the_marks_find_what_is_forgotten() -> None:
    html = '<p>⟦Hello <b>you</b>⟧ there</p><a title="Leave">⟦Leave⟧</a><code>x y</code>'
    assert pseudo_language.untranslated_in(html, None) == ["text: ⟧ there", "a title: Leave"]
    source = 'toast("Saved it."); toast(gettext("Sent it.")); const a = "gw-x gw-y";'
    assert pseudo_language.untranslated_in_script(source) == ["Saved it."]

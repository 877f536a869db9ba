"""Every page shows texts of people and models as text: never as markup, attribute, or script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.test import Client
from django.utils import timezone

import gateway.urls  # noqa: F401  # registers what the staff admin shows
from billing import grants, redemptions, spend_caps
from billing.models import CreditRequest
from channels import account_keys, breaker, team
from channels.audit import COMMAND_LINE, Actor
from channels.errors import ProviderError
from channels.models import (
    AuditEntry,
    CostPrice,
    CreditPrice,
    KnownDevice,
    LanguageModel,
    LoginSession,
    ModelMove,
    ModelNotice,
    Outage,
    PersonMail,
    Plan,
    ProviderList,
    Route,
    RouteTraits,
    User,
)
from conversations.models import (
    ChatSession,
    DraftReply,
    ProviderDay,
    UsageRollup,
    WaitingTurn,
)
from dashboard.staff import urls as staff_urls
from dashboard.tests.test_strangers import IDS, OUR_APPS, Tenant, address_of, make_tenant
from gateway import verification
from gateway.tests.test_policies import CONSOLE
from tests.support.clients import ApiClient, log_in, staff_guest
from tests.support.fake_provider import FakeProvider
from tests.support.manage import ManageClient

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

MARK = "h4x"
ATTACK = f"""'"><img src=x onerror={MARK}()><b x-data x-init="{MARK}()">{{{{7*7}}}}"""
# For fields with a lower maximum length.
SHORTER = f'"><img src=x onerror={MARK}()>'
SHORT = f"<b {MARK}>"
URL = f'javascript:{MARK}()//"><img src=x onerror={MARK}()>'
# Read by programs, each in its own format, and shown on no page.
KEPT = {
    "channels.ApiKey.key_digest", "channels.ApiKey.key_last_four",
    "channels.ApiKey.encryption_key_id", "channels.Provider.encryption_key_id",
    "channels.Invitation.encryption_key_id", "billing.RedemptionCode.encryption_key_id",
    "channels.ApiKey.pepper_id", "channels.AccountKey.key_digest",
    "channels.AccountKey.key_last_four", "channels.AccountKey.encryption_key_id",
    "channels.AccountKey.pepper_id", "billing.AccountKeyWindow.history",
    "conversations.ManagementRecord.fingerprint", "conversations.ManagementRecord.body",
    "channels.Invitation.pepper_id",
    "billing.RedemptionCode.pepper_id",
    "billing.RedemptionCode.code_digest", "billing.RedemptionCode.code_last_four",
    "channels.LoginSession.session_key", "channels.LoginSession.session_data",
    "channels.DailyCount.subject_digest", "channels.KnownDevice.digest", "channels.Account.turns",
    "channels.User.password", "channels.Invitation.secret_digest", "channels.CatalogueVersion.mark",
    "channels.Wording.normalized",
    "channels.RouteTraits.limit_name", "channels.RouteTraits.system_messages",
    "billing.RateWindow.history", "conversations.UsageRollup.durations",
    "conversations.IdempotencyRecord.fingerprint", "conversations.IdempotencyRecord.body",
}  # fmt: skip
# Append-only: the database refuses updates, so these texts are hostile from the start.
APPENDED = {"billing.LedgerEntry"}
LIVE_ATTRIBUTES = ("on", "x-", "@", ":", "hx-", "data-hx-", "style", "srcdoc")
ADDRESSES = ("href", "src", "action", "formaction", "xlink:href", "poster", "data")


class Page(HTMLParser):
    """Parses a page as a browser does, and records which parts of a hostile text became active."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[str] = []
        self.script = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.script = tag if tag in ("script", "style") else ""
        values = dict(attrs)
        if self.script and values.get("type") == "application/json":
            self.script = ""
        for name, value in attrs:
            text = (value or "").strip().lower()
            if name == "hx-get":  # one of our URLs, whose query contains an encoded text
                text = text.partition("?")[0] + re.sub(f"{MARK}%28", "", text.partition("?")[2])
            is_alive = MARK in name or (MARK in text and name.startswith(LIVE_ATTRIBUTES))
            is_alive |= name in ADDRESSES and bool(re.match(r"(javascript|data|vbscript):", text))
            if is_alive:
                self.alive.append(f"<{tag} {name}={value!r}>")
        if tag == "img" and values.get("src") == "x":
            self.alive.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        self.script = ""

    def handle_data(self, data: str) -> None:
        if self.script and MARK in data:
            self.alive.append(f"<{self.script}>{data:.80}")

    def handle_comment(self, data: str) -> None:
        if MARK in data:
            self.alive.append(f"<!--{data:.80}")


def findings(path: str, response: Any) -> list[str]:
    """Return which parts of the hostile text are more than text in this response."""
    assert response.status_code < 500, path
    body = b"".join(response.streaming_content) if response.streaming else response.content
    if response.status_code in (301, 302):
        return [f"{path}: to {response['Location']}"] * response["Location"].startswith(
            "javascript"
        )
    kind = response["Content-Type"].split(";")[0]
    if kind != "text/html":
        assert response["X-Content-Type-Options"] == "nosniff", path
        return [] if kind in ("application/json", "text/csv", "text/plain", "text/javascript",
                              "text/event-stream", "application/jsonl", "image/svg+xml",
                              "application/zip") \
            else [f"{path}: {kind}"]  # fmt: skip
    page, text = Page(), body.decode()
    page.feed(text)
    raw = [part for part in ("<img src=x", SHORT, "<b x-data") if part in text]
    return [f"{path}: {found}" for found in page.alive + raw]


def text_fields(model: type[models.Model]) -> Iterator[models.Field[Any, Any]]:
    for field in model._meta.concrete_fields:
        is_text = isinstance(field, models.CharField | models.TextField | models.JSONField)
        if is_text and not field.choices and f"{model._meta.label}.{field.name}" not in KEPT:
            yield field


def hostile_value(field: models.Field[Any, Any], number: int) -> Any:
    if isinstance(field, models.JSONField):
        named = {"daily_quota_reached": ATTACK, ATTACK: ATTACK}
        if field.model is AuditEntry:
            return {name: [text, text] for name, text in named.items()}
        return [named] if field.get_default() == [] else named
    if isinstance(field, models.EmailField):
        # The characters that an address may contain between quotes.
        return f'"<img src=x onerror={MARK}()>{number}"@example.com'
    texts = (URL if "url" in field.name else ATTACK, SHORTER, SHORT)
    # Rows that must be unique differ by their number.
    return next(
        text for text in (f"{text}{number}" for text in texts)
        if len(text) <= (field.max_length or len(text))
    )  # fmt: skip


# The database refuses to start with other secrets than SecretCheck records, and tenants write
# neither of these texts.
LEFT_ALONE = ("channels.SecretCheck", "auth.Permission")


def poison() -> None:
    """Write the hostile text into every text field of every row."""
    for app in (*OUR_APPS, "auth", "account", "admin"):
        for model in apps.get_app_config(app).get_models():
            rows = list(model._base_manager.values_list("pk", flat=True))
            assert (
                rows or app not in OUR_APPS or model._meta.label == "conversations.RollupProgress"
            ), f"make a row of {model._meta.label}"
            if model._meta.label in (*APPENDED, *LEFT_ALONE):
                continue
            for number, pk in enumerate(rows):
                values = {field.name: hostile_value(field, number) for field in text_fields(model)}
                if values:
                    model._base_manager.filter(pk=pk).update(**values)


def make_hostile_tenant(provider: FakeProvider) -> Tenant:
    """Return a tenant with a row of everything, in which each text is hostile."""
    one = make_full_tenant(provider)
    poison()
    one.people["owner"].refresh_from_db()
    return one


def make_full_tenant(provider: FakeProvider) -> Tenant:
    """Return a tenant with a row of everything."""
    one = make_tenant("mine", "own", provider)
    channel, owner = one.site.channel, one.people["owner"]
    actor = Actor(ATTACK, owner)
    one.account.plan = Plan.objects.create(name="Basic", requests_per_minute=10, daily_quota=10)
    one.account.save()
    now, entered = timezone.now(), channel.model
    left = LanguageModel.objects.exclude(pk=entered.pk)[0]
    LanguageModel.objects.filter(pk=left.pk).update(ends_on=now.date(), successor=entered)
    ModelMove.objects.create(
        channel=channel, left=left, entered=entered, ends_on=now.date(), moved_at=now
    )
    ModelNotice.objects.create(model=left, ends_on=now.date(), kind="over", sent_at=now)
    ProviderList.objects.create(provider_name="p", tried_at=now)
    RouteTraits.objects.create(provider_name="p", provider_model="m", learned_at=timezone.now())
    api = ApiClient(one.site.api_key)
    assert api.chat(session_id="s2", headers={"Idempotency-Key": "k"}).status_code == 200
    spend_caps.set_cap(
        channel=channel,
        day_microcredits=10**9,
        month_microcredits=None,
        actor=actor,
        now=timezone.now(),
    )
    issued = account_keys.issue_account_key(account=one.account, name=ATTACK[:99], actor=actor)
    managed = ManageClient(issued.clear).post("channels", {"name": "x"}, once="k")
    assert managed.status_code == 201
    grants.grant_credits(
        account=one.account, amount_microcredits=1, reason=ATTACK, actor=actor, reference=ATTACK
    )
    redemptions.make_codes(reference=ATTACK, count=1, amount_microcredits=1, actor=COMMAND_LINE)
    WaitingTurn.objects.create(session=ChatSession.objects.all()[0], expires_at=timezone.now())
    breaker.note_failure("groq", "llama", ProviderError("timeout"), now=timezone.now())
    verification.verify_and_alert()
    team.invite(account=one.account, email="b@invited.example", role=team.Role.VIEWER, actor=actor)
    UsageRollup.objects.create(
        channel=channel, starts_at=timezone.now().replace(minute=0, second=0, microsecond=0),
        is_day=False, is_test=False, request_count=1, estimated_count=0, input_tokens=1,
        output_tokens=1, charged_microcredits=0, durations="[]",
    )  # fmt: skip
    DraftReply.objects.create(
        channel=channel, is_test=False, created_at=timezone.now(), input_tokens=1,
        output_tokens=1, charged_microcredits=0,
    )  # fmt: skip
    CostPrice.objects.create(
        provider_name="p", model_id="m", starts_on=now.date(), input_price_micros=1,
        output_price_micros=1,
    )  # fmt: skip
    CreditPrice.objects.create(starts_on=now.date(), price_micros=1)
    Outage.objects.create(provider_name="p", provider_model="m", began_at=now)
    ProviderDay.objects.create(
        day=now.date(), request_count=1, input_tokens=1, output_tokens=1, cached_input_tokens=0,
        charged_microcredits=0,
    )  # fmt: skip
    KnownDevice.objects.create(user=owner, digest="0" * 64, last_login_at=now)
    PersonMail.objects.create(
        user=owner, kind="key", account=one.account, line=ATTACK, created_at=now
    )
    LoginSession.objects.create(
        session_key="k", user=owner, expire_date=timezone.now() + timedelta(days=1)
    )
    Group.objects.create(name="Support")
    TOTP.activate(owner, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    Authenticator.objects.create(
        user=owner, type=Authenticator.Type.WEBAUTHN, data={"name": ATTACK, "credential": {}}
    )
    EmailAddress.objects.get_or_create(user=owner, email=owner.email, primary=True, verified=True)
    for model in admin.site._registry:
        row = model._base_manager.all()[0]
        LogEntry.objects.create(
            user=owner, content_type=ContentType.objects.get_for_model(model), action_flag=CHANGE,
            object_id=str(row.pk), object_repr=ATTACK, change_message=ATTACK,
        )  # fmt: skip
    return one


@pytest.fixture
def tenant(provider: FakeProvider, db: None) -> Tenant:
    return make_hostile_tenant(provider)


def form_of(html: str) -> dict[str, Any]:
    """Return a hostile value for every text field of a page's forms."""
    names = set(re.findall(r'<(?:input|textarea)[^>]*\sname="([^"]+)"', html))
    numbers = [name for name in names if name.endswith(("_FORMS", "csrfmiddlewaretoken"))]
    return dict.fromkeys(names - set(numbers), ATTACK) | {
        name: "0" for name in numbers if "csrf" not in name
    }


def walk(client: Client, paths: list[str], *, least: int) -> None:
    """Open every page, send its forms full of hostile text, and check both responses."""
    found, shown = [], 0
    for path in paths:
        response = client.get(path)
        found += findings(path, response)
        if response.streaming or "text/html" not in response.get("Content-Type", ""):
            continue
        text = response.content.decode()
        shown += MARK in text
        found += findings(f"POST {path}", client.post(path, form_of(text)))
    assert found == []
    assert shown >= least, f"only {shown} of {len(paths)} pages showed the text at all"


def test_no_page_of_a_model_runs_it(tenant: Tenant) -> None:
    client = log_in(User.objects.create_superuser("boss@example.com"))
    paths, jsons = [], []
    for model, registered in admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        pk = model._base_manager.values_list("pk", flat=True)[0]
        paths += [base, f"{base}?_popup=1", f"{base}add/", f"{base}?q={MARK}"]
        paths += [f"{base}{pk}/{page}/" for page in ("change", "history", "delete")]
        chosen = {"action": "delete_selected", "_selected_action": str(pk)}
        assert findings(base, client.post(base, chosen)) == []
        for name in registered.autocomplete_fields:
            asked = f"app_label={model._meta.app_label}&model_name={model._meta.model_name}"
            jsons.append(f"/admin/autocomplete/?{asked}&field_name={name}&term=")
    paths.append(f"/admin/channels/user/{tenant.people['owner'].pk}/password/")
    walk(client, [*paths, *jsons], least=60)
    for path in jsons:
        assert client.get(path)["Content-Type"] == "application/json"


def test_no_page_of_the_staff_runs_it(tenant: Tenant) -> None:
    client = log_in(User.objects.create_superuser("boss@example.com", first_name=ATTACK[:150]))
    values = {"account_id": tenant.account.pk, "route_id": Route.objects.all()[0].pk}
    values |= {"request_id": CreditRequest.objects.all()[0].pk}
    paths = ["/admin" + address_of(page, values) for page in staff_urls.urlpatterns]
    paths += [f"/admin/credits/book/?accounts={tenant.account.pk}&deed=add", "/admin/"]
    paths += [
        f"/admin/search/?s={word}{more}" for word in ("b", MARK) for more in ("", "&extended=1")
    ]
    walk(client, paths, least=6)


@pytest.mark.parametrize("who", ["owner", "staff"])
def test_no_page_of_the_console_runs_it(tenant: Tenant, who: str) -> None:
    client = log_in(tenant.people["owner"]) if who == "owner" else staff_guest(tenant.site)
    values = {name: find(tenant) for name, (find, _) in IDS.items()}
    pages = [page for page in CONSOLE if page.name != "logout"]
    paths = [address_of(page, values) for page in pages]
    paths += [f"{path}?q={ATTACK}&text={ATTACK}&page={ATTACK}&s=h" for path in paths]
    # Sent one by one, because a form of one page may change what the next page shows.
    found, shown = [], 0
    for path in paths:
        response = client.get(path)
        found += findings(path, response)
        shown += MARK in response.content.decode() if not response.streaming else 0
    assert found == []
    assert shown >= 30, shown
    if who == "owner":
        walk(
            client, [path for path in paths if "leave" not in path and "team" not in path], least=8
        )


def test_no_page_of_ones_own_runs_it(tenant: Tenant) -> None:
    client = log_in(tenant.people["owner"])
    key = Authenticator.objects.get(type=Authenticator.Type.WEBAUTHN).pk
    paths = [
        "/accounts/password/change/", "/accounts/email/", "/accounts/2fa/",
        "/accounts/2fa/webauthn/", f"/accounts/2fa/webauthn/keys/{key}/edit/",
        f"/accounts/2fa/webauthn/keys/{key}/remove/", "/accounts/2fa/totp/deactivate/",
        "/accounts/2fa/recovery-codes/generate/", "/accounts/reauthenticate/", "/accounts/logout/",
    ]  # fmt: skip
    walk(client, paths, least=2)


def test_no_public_page_runs_it(tenant: Tenant, client: Client) -> None:
    actor = Actor("", tenant.people["owner"])
    sent = team.invite(
        account=tenant.account, email="c@d.example", role=team.Role.VIEWER, actor=actor
    )
    paths = [
        f"/join/{sent.secret}/", "/join/accept/", "/docs/", f"/{ATTACK}/", f"/docs/{ATTACK}",
        *(f"/accounts/{page}/?next={ATTACK}&email={ATTACK}" for page in
          ("login", "signup", "password/reset", "2fa/authenticate", "confirm-email/x")),
    ]  # fmt: skip
    walk(client, paths, least=4)


def test_mails_are_plain_text(tenant: Tenant, mailoutbox: Any) -> None:
    client = log_in(tenant.people["owner"])
    client.post("/team/invite/", {"email": "e@f.example", "role": "viewer"})
    assert mailoutbox
    for mail in mailoutbox:
        assert mail.content_subtype == "plain"
        assert not getattr(mail, "alternatives", ())

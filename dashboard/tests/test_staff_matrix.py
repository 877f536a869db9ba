"""A staff member with a single permission sees no secret, no text, and gains no higher right.

The matrix is generated: every permission of every model that the staff admin shows, and the
gateway's own permissions, against every page, filter, search, autocomplete, and form. New models
and pages are covered automatically.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

import gateway.urls  # noqa: F401  # registers what the staff admin shows
from billing import redemptions
from billing.models import CreditAccount, CreditRequest, LedgerEntry, RedemptionCode
from billing.redemptions import CODES
from channels import account_keys, catalogue, channel_changes, provider_lists, team
from channels.audit import COMMAND_LINE
from channels.models import (
    Account,
    AccountKey,
    ApiKey,
    AuditEntry,
    Channel,
    FixedAnswer,
    LanguageModel,
    Membership,
    Plan,
    PromptVersion,
    Provider,
    Route,
    User,
)
from channels.sealing import ACCOUNT_KEYS
from channels.tests.factories import Site
from conversations.models import ChatSession, Feedback, IdempotencyRecord, Message
from dashboard.console import urls as console_urls
from dashboard.staff import urls as staff_urls
from gateway import verification
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
DEEDS = ("add", "change", "delete", "view")
HOSTILE_HOST = "https://collector.example/v1"
# These concern only the person: their log-in, and an account of their own.
OWN = ("logout", "create_account")
PASSWORD = "correct-horse-battery-9"
FORM = "application/x-www-form-urlencoded"

PROVIDER_KEY = "sk-or-v1-canary-provider-key-0123456789"
FACTOR_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
# What visitors, models, and owners wrote.
TEXTS = ("canary-question", "canary-reply", "canary-page", "canary-prompt", "canary-note")


@pytest.fixture
def filled(
    site: Site, stranger: Site, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """Two accounts with everything that somebody could want to read or take."""
    monkeypatch.setattr(provider_lists, "list_served_models", lambda client, **_: ["a-model"])
    for one in (site, stranger):
        channel_changes.update_channel(
            channel_id=str(one.channel.id), system_prompt="canary-prompt", prompt_note="written"
        )
        provider.script.append(reply("canary-reply"))
        answer = ApiClient(one.api_key).chat(
            "canary-question",
            metadata={"url": "https://shop.example/canary-page", "title": "canary-page"},
            headers={"Idempotency-Key": "k"},
        )
        assert answer.status_code == 200
    Feedback.objects.create(
        message=Message.objects.filter(role="assistant")[0], rating=1, note="canary-note"
    )
    FixedAnswer.objects.create(channel=site.channel, question="q", answer="saved")
    catalogue.set_provider_key(provider=Provider.objects.get(name="groq"), clear=PROVIDER_KEY)
    for one in (site, stranger):
        account_keys.issue_account_key(
            account=one.channel.account, name="Script", actor=COMMAND_LINE
        )
    Group.objects.create(name="Support")
    Plan.objects.create(name="Generous", monthly_grant_microcredits=10**12)
    TOTP.activate(User.objects.get(email="owner@example.com"), FACTOR_SECRET)
    redemptions.make_codes(reference="matrix", count=1, amount_microcredits=1, actor=COMMAND_LINE)
    owner = User.objects.get(email="owner@example.com")
    owner.set_password(PASSWORD)
    owner.save()
    team.invite(
        account=site.channel.account,
        email="guest@example.com",
        role=Membership.Role.OWNER,
        actor=COMMAND_LINE,
    )
    CreditRequest.objects.create(
        account=site.channel.account, amount_microcredits=5, created_at=timezone.now()
    )
    verification.verify_and_alert()
    return site


def secrets(*sites: Site) -> dict[str, str]:
    """Return what no staff page may show to anybody with one permission."""
    found = {text: text for text in TEXTS}
    for number, one in enumerate(sites):
        found |= {f"live key {number}": one.api_key, f"test key {number}": one.test_key}
    for account_key in AccountKey.objects.all():
        found[f"account key {account_key.id}"] = ACCOUNT_KEYS.unseal(account_key)
    keys: list[Any] = [*ApiKey.objects.all(), *AccountKey.objects.all()]
    for key in keys:
        found[f"digest of {key.id}"] = key.key_digest
        found[f"ciphertext of {key.id}"] = base64.b64encode(bytes(key.key_ciphertext)).decode()
        found[f"bytes of {key.id}"] = repr(bytes(key.key_ciphertext))[2:-1]
    sealed = bytes(Provider.objects.get(name="groq").key_ciphertext or b"")
    found |= {"provider key": PROVIDER_KEY, "sealed provider key": repr(sealed)[2:-1]}
    found["password hash"] = User.objects.get(email="owner@example.com").password.split("$")[-1]
    found["factor"] = FACTOR_SECRET
    invitation = Account.objects.get(id=sites[0].account_id).invitations.get()
    found["invitation"] = invitation.secret_digest
    for code in RedemptionCode.objects.all():
        found[f"code {code.id}"] = CODES.unseal(code)
        found[f"digest of code {code.id}"] = code.code_digest
        found[f"ciphertext of code {code.id}"] = repr(bytes(code.code_ciphertext or b""))
    return found


def staff_with(*permissions: Permission) -> tuple[User, Client]:
    user = User.objects.create_user("helper@example.com", is_staff=True)
    user.user_permissions.set(permissions)
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return user, client


def permissions_of(model: type[Model]) -> list[Permission]:
    found = Permission.objects.filter(
        content_type__app_label=model._meta.app_label, content_type__model=model._meta.model_name
    )
    return list(found.order_by("codename"))


def urls_of(model: type[Model]) -> Iterator[str]:
    """Yield every URL that the staff admin has for a model, with the keys of its rows."""
    row = model._default_manager.first()
    for pattern in admin.site._registry[model].urls:
        if pattern.name is None:
            continue
        wanted = pattern.pattern.converters
        if wanted and row is None:
            continue
        yield reverse(f"admin:{pattern.name}", args=[getattr(row, "pk", None) for _ in wanted])


def lookups_of(model: type[Model]) -> Iterator[str]:
    """Yield filters, searches, and orders for each column of a row."""
    page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for field in model._meta.concrete_fields:
        yield f"{page}?{field.name}__contains=canary"
    yield f"{page}?channel__api_keys__key_digest__startswith=0"
    for term in ("canary", "sk-", "pbkdf2"):
        yield f"{page}?q={term}"


def shared_pages(site: Site) -> Iterator[str]:
    """Yield the pages that belong to no model: the staff's own, the palette, the console."""
    values: dict[str, Any] = {"account_id": site.account_id, "channel_id": site.channel.id}
    values |= {"route_id": Route.objects.all()[0].id, "session_pk": ChatSession.objects.all()[0].id}
    values |= {"number": 1, "request_id": CreditRequest.objects.all()[0].id}
    for site_name, patterns in (
        ("admin", staff_urls.urlpatterns),
        ("console", console_urls.urlpatterns),
    ):
        for pattern in patterns:
            if not isinstance(pattern, URLPattern):
                continue
            wanted = set(pattern.pattern.converters)
            if wanted - set(values) or pattern.name in OWN:
                continue
            args = {name: values[name] for name in wanted}
            yield reverse(f"{site_name}:{pattern.name}", kwargs=args)
    for term in ("canary", "owner", "shop", "guest", "groq"):
        yield f"/admin/search/?s={term}"
        yield f"/admin/search/?s={term}&extended=1"
    yield "/admin/"
    for app in ("channels", "billing", "conversations"):
        yield f"/admin/{app}/"
    for model in REGISTERED:
        for field in admin.site._registry[model].autocomplete_fields:
            yield (
                f"/admin/autocomplete/?app_label={model._meta.app_label}"
                f"&model_name={model._meta.model_name}&field_name={field}&term="
            )


def text_of(response: Any) -> str:
    content = b"".join(response) if response.streaming else response.content
    return str(content.decode(errors="replace"))


def steps_of(
    model: type[Model], own: list[str], site: Site
) -> Iterator[tuple[tuple[Permission, ...], list[str]]]:
    """Yield permissions with the pages to try with them.

    A model's own pages are tried with each of its permissions alone. All other pages are tried with
    all of them at once: what these do not open together, none of them opens alone.
    """
    permissions = tuple(permissions_of(model))
    yield from (((one,), own) for one in permissions)
    yield permissions, list(shared_pages(site))


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_one_permission_shows_no_secret_and_no_text(
    model: type[Model], filled: Site, stranger: Site
) -> None:
    hidden = secrets(filled, stranger)
    for permissions, pages in steps_of(model, [*urls_of(model), *lookups_of(model)], filled):
        user, client = staff_with(*permissions)
        names = [one.codename for one in permissions]
        for page in pages:
            response = client.get(page)
            assert response.status_code < 500, (names, page)
            text = text_of(response)
            shown = [name for name, secret in hidden.items() if secret in text]
            assert not shown, (names, page, shown)
        user.delete()


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_a_filter_in_the_address_cannot_ask_about_a_column(
    model: type[Model], filled: Site, admin_client: Client
) -> None:
    """Django filters by any column, which reveals texts, digests, and hashes letter by letter."""
    page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for field in model._meta.concrete_fields:
        for lookup in (f"{field.name}__startswith", f"{field.name}__regex", f"{field.name}__gt"):
            status = admin_client.get(f"{page}?{lookup}=a").status_code
            assert status == 400, (page, lookup, status)


# --- What one permission cannot change ------------------------------------------------------------


def belongings() -> dict[str, Any]:
    """Return who may do what, where texts and keys go, and who was granted credits.

    Leaves out what is new and harmless: a person without password and permissions, an account and a
    plan without credits, an empty channel.
    """
    new = {"email": "mine@example.com", "is_staff": False, "is_superuser": False}
    people = User.objects.exclude(email="helper@example.com").exclude(
        password__startswith="!", **new
    )
    powerful = User.objects.exclude(is_staff=False, is_superuser=False, groups=None)
    fields = ("pk", "email", "password", "is_staff", "is_superuser")
    return {
        "people": list(people.order_by("pk").values_list(*fields)),
        "powers": list(
            powerful.order_by("pk").values_list("email", "is_staff", "is_superuser", "groups")
        ),
        "own permissions": list(
            User.user_permissions.through.objects.order_by("pk").values_list(
                "user_id", "permission_id"
            )
        ),
        "groups": list(Group.objects.order_by("pk").values_list("pk", "permissions")),
        "members": list(Membership.objects.order_by("pk").values_list("account", "user", "role")),
        "homes": list(
            Channel.objects.exclude(messages=None)
            .distinct()
            .order_by("pk")
            .values_list("pk", "account")
        ),
        "prompts": list(
            Channel.objects.exclude(system_prompt="").order_by("pk").values_list("system_prompt")
        ),
        "versions": PromptVersion.objects.exclude(text="").count(),
        "answers": list(FixedAnswer.objects.order_by("pk").values_list("channel", "answer")),
        "account keys": list(
            AccountKey.objects.order_by("pk").values_list("pk", "account", "key_digest")
        ),
        "keys": list(ApiKey.objects.order_by("pk").values_list("pk", "channel", "key_digest")),
        "hosts": list(
            Provider.objects.filter(is_enabled=True)
            .order_by("pk")
            .values_list("base_url", "key_setting", "key_ciphertext")
        ),
        "plans": list(Account.objects.exclude(plan=None).order_by("pk").values_list("pk", "plan")),
        "grants": list(
            Plan.objects.exclude(monthly_grant_microcredits=0)
            .order_by("pk")
            .values_list("monthly_grant_microcredits")
        ),
        "ledger": list(LedgerEntry.objects.order_by("pk").values()),
        "balances": list(CreditAccount.objects.order_by("pk").values()),
        "codes": list(RedemptionCode.objects.order_by("pk").values_list("pk", "is_enabled")),
        "messages": list(Message.objects.order_by("pk").values()),
        "replays": list(IdempotencyRecord.objects.order_by("pk").values()),
        "audit log": list(AuditEntry.objects.filter(action="provider.key_set").values("id")),
    }


# What each permission may change, as its own name says.
MEANT = {
    "delete_fixedanswer": {"answers"},
    "delete_provider": {"hosts"},
    "delete_plan": {"grants"},
}


def greedy_form(helper: User, site: Site) -> str:
    """Return a form that asks for everything at once. Each page takes the fields it knows.

    Already encoded, because it is sent to a hundred pages.
    """
    stranger_account = Account.objects.exclude(id=site.account_id).order_by("id").first()
    assert stranger_account is not None
    model = LanguageModel.objects.all()[0]
    everything = list(Permission.objects.values_list("pk", flat=True))
    provider = Provider.objects.get(name="openrouter")
    form = {
        "name": "taken",
        "account": stranger_account.pk,
        "owner_email": "stranger@example.com",
        "site_url": "",
        "is_enabled": "on",
        "reason": "because",
        "model": model.pk,
        "system_prompt": "mine",
        "requests_per_minute": "5",
        "daily_quota": "5",
        "fallback_replies": "{}",
        "channel": str(Channel.objects.exclude(id=site.channel.id)[0].pk),
        "question": "q",
        "answer": "mine",
        "plan": Plan.objects.get(name="Generous").pk,
        "monthly_grant_microcredits": "1000000",
        "base_url": HOSTILE_HOST,
        "key_setting": "OPENROUTER_API_KEY",
        "new_key": "sk-mine",
        "provider": str(provider.pk),
        "provider_model": "x",
        "position": "0",
        "email": "mine@example.com",
        "first_name": "x",
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
        "groups": list(Group.objects.values_list("pk", flat=True)),
        "user_permissions": everything,
        "permissions": everything,
        "user": helper.pk,
        "role": "owner",
        "password": PASSWORD,
        "password1": PASSWORD,
        "password2": PASSWORD,
        "usable_password": "true",
        "post": "yes",
        "confirm": "yes",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "0",
        "memberships-0-user": helper.pk,
        "memberships-0-account": site.account_id,
        "memberships-0-role": "owner",
        "routes-TOTAL_FORMS": "0",
        "routes-INITIAL_FORMS": "0",
        "fixed_answers-TOTAL_FORMS": "0",
        "fixed_answers-INITIAL_FORMS": "0",
        "accounts": str(site.account_id),
        "token": "0190a000-0000-4000-8000-000000000000",
        "deed": "add",
        "amount": "5",
        "category": "purchase",
        "step": "book",
        "decision": "approve",
        "count": "1",
        "max_redemptions": "1",
        "note": "mine",
    }
    return urlencode(form, doseq=True)


def actions_of(model: type[Model]) -> Iterator[tuple[str, dict[str, Any]]]:
    page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    rows = [str(row.pk) for row in model._default_manager.all()[:3]]
    names = {"delete_selected"}
    for one in admin.site._registry[model].actions or ():
        names.add(one if isinstance(one, str) else one.__name__)
    for name in sorted(names):
        yield page, {"action": name, "_selected_action": rows, "post": "yes"}


def difference(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_one_permission_takes_nothing(model: type[Model], filled: Site) -> None:
    RedemptionCode.objects.update(is_enabled=False)
    for permissions, pages in steps_of(model, list(urls_of(model)), filled):
        helper, client = staff_with(*permissions)
        names = [one.codename for one in permissions]
        form = greedy_form(helper, filled)
        before = belongings()
        for page in pages:
            response = client.post(page, form, content_type=FORM)
            assert response.status_code < 500, (names, page)
        for page, action in actions_of(model):
            assert client.post(page, action).status_code < 500, (names, action)
        lost = difference(before, belongings()).difference(*(MEANT.get(one, ()) for one in names))
        assert not lost, (names, lost)
        helper.delete()
        restore_rows(filled)


def restore_rows(site: Site) -> None:
    """Restore what a permission was meant to delete, for the next one."""
    if not FixedAnswer.objects.exists():
        FixedAnswer.objects.create(channel=site.channel, question="q", answer="saved")
    Plan.objects.get_or_create(name="Generous", monthly_grant_microcredits=10**12)


def test_all_permissions_but_superuser_reach_no_higher_right(filled: Site) -> None:
    """Together they may do much, but not create superusers, staff, members, or keys."""
    helper, client = staff_with()
    helper.user_permissions.set(Permission.objects.all())
    form = greedy_form(helper, filled)
    before = belongings()
    for model in REGISTERED:
        for page in urls_of(model):
            if "/delete/" in page:
                continue
            assert client.post(page, form, content_type=FORM).status_code < 500, page
    lost = difference(before, belongings())
    assert not lost & {
        "powers",
        "own permissions",
        "groups",
        "members",
        "homes",
        "keys",
        "prompts",
        "account keys",
    }
    assert HOSTILE_HOST not in {host for host, *_ in belongings()["hosts"]}
    assert "people" not in lost


def test_permissions_on_the_page_are_those_of_the_matrix(filled: Site) -> None:
    """Every permission that can be given is tried here, or its model has no page at all."""
    tried = {one.pk for model in REGISTERED for one in permissions_of(model)}
    shown = {model._meta.label_lower for model in REGISTERED}
    for permission in Permission.objects.select_related("content_type"):
        kind = permission.content_type
        if f"{kind.app_label}.{kind.model}" in shown:
            assert permission.pk in tried
        else:
            assert permission.codename.split("_")[0] in DEEDS, permission.codename

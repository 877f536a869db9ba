"""Every staff page opens with data present, money is read-only, and nobody else gets in."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import gateway.urls  # noqa: F401  # registers what the staff admin shows
from billing import redemptions, spend_caps
from billing.models import (
    CreditAccount,
    CreditGrant,
    DailyUsage,
    Hold,
    LedgerEntry,
    VerificationRun,
)
from channels import account_keys, breaker, catalogue
from channels.audit import COMMAND_LINE
from channels.errors import ProviderError
from channels.models import (
    Account,
    CostPrice,
    CreditPrice,
    Invitation,
    Plan,
    Provider,
    User,
)
from channels.tests.factories import Site, save_reply
from conversations.models import (
    ChatSession,
    DraftReply,
    FailedRequest,
    Feedback,
    Message,
    WaitingTurn,
)
from gateway import verification
from tests.support.clients import ApiClient, owner_client, try_password
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

PROVIDER_KEY = "sk-or-v1-never-shown-0123456789"
FACTOR_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
REPLY = "<script>alert('reply')</script>"
MONEY = [CreditAccount, CreditGrant, LedgerEntry, Hold, DailyUsage, VerificationRun]
REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)


def address(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.fixture
def filled(site: Site, stranger: Site, provider: FakeProvider) -> Site:
    """Two sites with a conversation each, a stored provider key, and a group, to fill all lists."""
    for one in (site, stranger):
        provider.script.append(reply(REPLY))
        assert ApiClient(one.api_key).chat("Hello <b>there</b>").status_code == 200
    catalogue.set_provider_key(provider=Provider.objects.get(name="groq"), clear=PROVIDER_KEY)
    Group.objects.create(name="Support")
    Plan.objects.create(name="Basic", requests_per_minute=10)
    verification.verify_and_alert()
    spend_caps.set_cap(
        channel=site.channel,
        day_microcredits=10**9,
        month_microcredits=None,
        actor=COMMAND_LINE,
        now=timezone.now(),
    )
    session = ChatSession.objects.all()[0]
    WaitingTurn.objects.create(session=session, expires_at=timezone.now())
    save_reply(site.channel, "q", "a", "other wording")
    for _ in range(2):
        ApiClient(site.api_key).chat(session_id="s2", headers={"Idempotency-Key": "k"})
    TOTP.activate(User.objects.get(email="owner@example.com"), FACTOR_SECRET)
    account_keys.issue_account_key(account=site.channel.account, name="Script", actor=COMMAND_LINE)
    redemptions.make_codes(reference="a test", count=1, amount_microcredits=1, actor=COMMAND_LINE)
    Invitation.objects.create(
        account_id=site.account_id,
        email="guest@example.com",
        role="viewer",
        secret_digest="0" * 64,
        expires_at=timezone.now(),
    )
    FailedRequest.objects.create(
        channel=site.channel, is_test=False, error_code="provider_error", created_at=timezone.now()
    )
    DraftReply.objects.create(
        channel=site.channel,
        is_test=False,
        created_at=timezone.now(),
        input_tokens=1,
        output_tokens=1,
        charged_microcredits=0,
    )
    Feedback.objects.create(message=Message.objects.filter(role="assistant")[0], rating=1)
    breaker.note_failure("groq", "llama", ProviderError("timeout"), now=timezone.now())
    CostPrice.objects.create(
        provider_name="groq", model_id="llama", starts_on=timezone.now().date(),
        input_price_micros=1, output_price_micros=1,
    )  # fmt: skip
    CreditPrice.objects.create(starts_on=timezone.now().date(), price_micros=1)
    return site


def test_all_of_our_models_that_staff_need_are_there() -> None:
    labels = {model._meta.label for model in REGISTERED}
    expected = {"channels.Account", "channels.ApiKey", "channels.Channel", "channels.LanguageModel"}
    expected |= {"channels.Provider", "channels.Route", "channels.User", "auth.Group"}
    expected |= {"billing.CreditAccount", "billing.DailyUsage", "billing.Hold"}
    expected |= {"billing.LedgerEntry", "conversations.ChatSession", "conversations.Message"}
    assert expected <= labels


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_every_page_opens(model: type[Model], filled: Site, admin_client: Client) -> None:
    registered = admin.site._registry[model]
    row = model._default_manager.first()
    assert row is not None
    pages = [address(model, "changelist"), address(model, "change", row.pk)]
    pages.append(address(model, "history", row.pk))
    pages.append(address(model, "changelist") + "?q=a&o=1.-2")
    if not registered.search_fields:
        pages.pop()
    for page in pages:
        response = admin_client.get(page)
        assert response.status_code == 200, page
        text = response.content.decode()
        for secret in (PROVIDER_KEY, filled.api_key, filled.test_key, REPLY, FACTOR_SECRET):
            assert secret not in text
    adds = admin_client.get(address(model, "add")).status_code
    assert adds == (200 if registered.has_add_permission(admin_request(admin_client)) else 403)


def admin_request(client: Client) -> Any:
    request = client.get("/admin/").wsgi_request
    request.user = User.objects.get(is_superuser=True)
    return request


@pytest.mark.parametrize("model", [*MONEY, ChatSession, Message], ids=lambda model: model.__name__)
def test_books_and_messages_cannot_be_changed(
    model: type[Model], filled: Site, admin_client: Client
) -> None:
    row = model._default_manager.first()
    assert row is not None
    before = list(model._default_manager.order_by("pk").values())
    for page in (address(model, "add"), address(model, "delete", row.pk)):
        assert admin_client.get(page).status_code == 403
        assert admin_client.post(page, {"post": "yes"}).status_code == 403
    assert admin_client.post(address(model, "change", row.pk), {"reason": "x"}).status_code == 403
    delete = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
    admin_client.post(address(model, "changelist"), delete)
    assert list(model._default_manager.order_by("pk").values()) == before


def test_an_account_with_books_cannot_be_deleted(filled: Site, admin_client: Client) -> None:
    page = address(Account, "delete", filled.account_id)
    admin_client.post(page, {"post": "yes"})
    assert Account.objects.filter(id=filled.account_id).exists()


def test_staff_log_in_and_others_do_not() -> None:
    User.objects.create_user("staff@example.com", "correct-horse", is_staff=True)
    User.objects.create_user("owner@example.com", "correct-horse")
    User.objects.create_user("gone@example.com", "correct-horse", is_staff=True, is_active=False)
    assert try_password("STAFF@example.com", "correct-horse").get("/admin/").status_code == 200
    owner = try_password("owner@example.com", "correct-horse")
    assert "sessionid" in owner.cookies
    refused = owner.get("/admin/", follow=True)
    assert refused.status_code == 403
    assert "You do not have access to this" in refused.content.decode()
    for email, password in (
        ("gone@example.com", "correct-horse"),
        ("staff@example.com", "wrong"),
        ("staff@example.com", ""),
        ("nobody@example.com", "correct-horse"),
    ):
        client = try_password(email, password)
        assert "_auth_user_id" not in client.session
        assert client.get("/admin/").status_code == 302


def test_an_owner_who_is_signed_in_elsewhere_sees_no_staff_page(filled: Site) -> None:
    client = owner_client(filled)
    for model in REGISTERED:
        response = client.get(address(model, "changelist"))
        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/")


def test_staff_without_permissions_see_nothing(filled: Site) -> None:
    User.objects.create_user("staff@example.com", "correct-horse", is_staff=True)
    client = try_password("staff@example.com", "correct-horse")
    for model in REGISTERED:
        assert client.get(address(model, "changelist")).status_code == 403


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_lists_take_few_queries(
    model: type[Model], filled: Site, admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    admin_client.get(address(model, "changelist"))
    with django_assert_max_num_queries(12):
        admin_client.get(address(model, "changelist"))

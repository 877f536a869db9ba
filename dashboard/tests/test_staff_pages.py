"""The staff's own pages: credits desk, timeline, codes, route tests, health, overview."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import redemptions
from billing.models import CreditAccount, LedgerEntry, RedemptionCode, VerificationRun
from channels import breaker, route_tests
from channels.errors import Fault, ProviderError
from channels.models import Account, AuditEntry, Channel, LanguageModel, PromptVersion, Route, User
from channels.providers.base import Completion, Usage
from channels.route_tests import Result
from channels.tests.factories import Site, make_site
from common import heartbeat
from conversations.models import FailedRequest
from dashboard.staff import health, urls, worker
from gateway import tasks, verification
from tests.support.clients import ApiClient, owner_client, staff_client, text_of
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
DESK = "/admin/credits/book/"


def form(*accounts: int, **changes: Any) -> dict[str, Any]:
    return {
        "accounts": ",".join(map(str, accounts)),
        "token": str(uuid.uuid4()),
        "deed": "add",
        "amount": "5",
        "category": "purchase",
        "last_day": "",
        "reason": "Invoice 17",
        "step": "book",
    } | changes


def balance_of(account_id: int) -> int:
    return CreditAccount.objects.get(account_id=account_id).balance_microcredits


# --- The credits desk -----------------------------------------------------------------------------


def test_the_desk_asks_shows_and_only_then_books(admin_client: Client, site: Site) -> None:
    asked = admin_client.get(DESK, {"accounts": str(site.account_id), "deed": "deduct"})
    assert asked.status_code == 200
    assert asked.context["form"]["deed"].value() == "deduct"
    shown = admin_client.post(DESK, form(site.account_id, amount="1,000.5", step="preview"))
    assert shown.status_code == 200
    assert "1,100.5" in text_of(shown)
    assert balance_of(site.account_id) == 100 * CREDIT
    booked = admin_client.post(DESK, form(site.account_id, amount="1000.5"), follow=True)
    assert "Booked on 1 account." in text_of(booked)
    assert balance_of(site.account_id) == 1_100_500_000
    entry = LedgerEntry.objects.latest("id")
    assert (entry.actor, entry.reason) == ("admin@example.com", "Invoice 17")
    assert AuditEntry.objects.get(action="credits.granted").account_id == site.account_id


@pytest.mark.parametrize(
    ("deed", "amount", "after"),
    [
        ("deduct", "0.000001", 99_999_999),
        ("correct", "-2.5", 97_500_000),
        ("correct", "3", 103_000_000),
    ],
)
def test_deductions_and_corrections_are_adjustments(
    admin_client: Client, site: Site, deed: str, amount: str, after: int
) -> None:
    admin_client.post(DESK, form(site.account_id, deed=deed, amount=amount))
    assert balance_of(site.account_id) == after
    assert LedgerEntry.objects.latest("id").kind == "adjustment"


def test_a_form_sent_twice_books_once(admin_client: Client, site: Site) -> None:
    sent = form(site.account_id)
    admin_client.post(DESK, sent)
    again = admin_client.post(DESK, sent, follow=True)
    assert "nothing was added" in text_of(again)
    assert balance_of(site.account_id) == 105 * CREDIT


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": ""},
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "1,5"},
        {"amount": "0.0000001"},
        {"amount": "NaN"},
        {"amount": "1e30"},
        {"deed": "deduct", "amount": "-1"},
        {"deed": "deduct", "amount": "100.000001"},
        {"deed": "correct", "amount": "0"},
        {"deed": "steal"},
        {"reason": " "},
        {"reason": "x" * 201},
        {"category": "gift"},
        {"last_day": "2020-01-01"},
        {"last_day": "tomorrow"},
        {"category": "adjustment", "last_day": "2099-01-01"},
        {"deed": "deduct", "last_day": "2099-01-01"},
        {"token": "x"},
        {"token": ""},
        {"accounts": ""},
        {"accounts": "999999,x"},
    ],
)
@pytest.mark.parametrize("step", ["preview", "book"])
def test_what_is_wrong_is_refused(
    admin_client: Client, site: Site, changes: dict[str, str], step: str
) -> None:
    response = admin_client.post(DESK, form(site.account_id, step=step) | changes)
    assert response.status_code == 422
    assert LedgerEntry.objects.count() == 1


def test_too_large_a_deduction_says_what_is_available(admin_client: Client, site: Site) -> None:
    response = admin_client.post(DESK, form(site.account_id, deed="deduct", amount="100.5"))
    assert "Only 100 credits are available" in text_of(response)


def test_many_accounts_are_booked_in_one_go(admin_client: Client, site: Site) -> None:
    rich = make_site(owner="rich@example.com", credit_amount=500)
    new = Account.objects.create(name="New")
    ids = [site.account_id, rich.account_id, new.id]
    action = {"action": "book_credits", "_selected_action": [str(one) for one in ids]}
    chosen = admin_client.post(reverse("admin:channels_account_changelist"), action)
    assert chosen["Location"].startswith(DESK)
    assert len(admin_client.get(chosen["Location"]).context["rows"]) == 3
    sent = form(*ids, deed="deduct", amount="200")
    preview = admin_client.post(DESK, sent | {"step": "preview"})
    assert preview.context["refused_count"] == 2
    booked = admin_client.post(DESK, sent, follow=True)
    text = text_of(booked)
    assert "Booked on 1 account." in text
    assert "Not booked on New" in text
    assert "Booked on 1 of 3 accounts" in text
    assert balance_of(rich.account_id) == 300 * CREDIT
    again = admin_client.post(DESK, sent, follow=True)
    assert "nothing was added" in text_of(again)


def test_balances_lead_to_the_desk_too(admin_client: Client, site: Site) -> None:
    action = {"action": "book_credits", "_selected_action": [str(site.account_id)]}
    page = reverse("admin:billing_creditaccount_changelist")
    assert admin_client.post(page, action)["Location"].startswith(DESK)
    for deed in ("add_credits", "deduct_credits", "correct_credits"):
        for model in ("billing_creditaccount", "channels_account"):
            url = reverse(f"admin:{model}_{deed}", args=[site.account_id])
            assert admin_client.get(url)["Location"].startswith(DESK)


# --- Permissions ----------------------------------------------------------------------------------


def pages(site: Site) -> list[str]:
    values = {"account_id": site.account_id, "route_id": Route.objects.all()[0].id, "request_id": 1}
    found = []
    for page in urls.urlpatterns:
        wanted = {name: values[name] for name in page.pattern.converters}
        found.append(reverse(f"admin:{page.name}", kwargs=wanted))
    return found


def test_every_page_needs_a_permission(site: Site) -> None:
    client = staff_client()
    for page in urls.urlpatterns:
        assert getattr(page.callback, "needs_permissions", ()), page.name
    for address in pages(site):
        for method in (client.get, client.post):
            assert method(address).status_code in (403, 405), address
    assert LedgerEntry.objects.count() == 1


def test_nobody_else_sees_the_staffs_pages(site: Site) -> None:
    owner = owner_client(site)
    for address in pages(site):
        for client in (Client(), owner):
            assert client.post(address)["Location"].startswith("/admin/login/"), address


def test_who_may_only_look_books_nothing(site: Site) -> None:
    client = staff_client("view_account", "view_creditaccount", "view_ledgerentry")
    assert client.post(DESK, form(site.account_id)).status_code == 403
    assert client.get(reverse("admin:timeline", args=[site.account_id])).status_code == 200
    assert "book_credits" not in text_of(client.get(reverse("admin:channels_account_changelist")))


# --- Timeline, overview, accounts -----------------------------------------------------------------


def test_the_timeline_explains_each_entry(
    admin_client: Client, site: Site, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    admin_client.post(DESK, form(site.account_id, deed="deduct", amount="4", reason="<b>oops"))
    response = admin_client.get(reverse("admin:timeline", args=[site.account_id]))
    text = text_of(response)
    for words in ("Reply in Shop", "&lt;b&gt;oops", "by admin@example.com", "purchase"):
        assert words in text
    assert [row["change"] for row in response.context["entries"]] == ["-4", "-1", "+100"]
    (day,) = response.context["days"]
    assert (day["added"], day["taken"], day["net"]) == ("100", "5", "95")
    kind = admin_client.get(reverse("admin:timeline", args=[site.account_id]) + "?kind=charge")
    assert [row["entry"].kind for row in kind.context["entries"]] == ["charge"]
    assert admin_client.get("/admin/accounts/999999/timeline/").status_code == 404


def test_the_list_of_accounts_says_what_they_did(
    admin_client: Client, site: Site, stranger: Site, provider: FakeProvider
) -> None:
    for _ in range(3):
        ApiClient(site.api_key).chat()
    Account.objects.create(name="Empty")
    response = admin_client.get(reverse("admin:channels_account_changelist"))
    figures = {one.name: one.figures for one in response.context["cl"].result_list}
    own = figures["owner@example.com"]
    assert (own.channel_count, own.request_count, own.charged_microcredits) == (1, 3, 3 * CREDIT)
    assert own.owner_email == "owner@example.com"
    assert figures["Empty"].request_count == 0


def test_a_list_says_what_its_button_adds_and_a_row_has_two_links(
    admin_client: Client, site: Site
) -> None:
    text = text_of(admin_client.get(reverse("admin:channels_account_changelist")))
    assert "</span>Add account</a>" in text
    row = text[text.index("field-links") :].partition("</td>")[0]
    assert re.findall(r">(\w[^<]*)</a>", row) == ["Overview", "Credits"]


def test_the_overview_sums_the_books(
    admin_client: Client, site: Site, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    response = admin_client.get("/admin/")
    assert [card["value"] for card in response.context["cards"]] == ["100", "99", "0", "1"]


def test_staff_without_permissions_get_an_overview_without_figures(site: Site) -> None:
    text = text_of(staff_client().get("/admin/"))
    assert "You have no permissions yet" in text
    assert "Credits of all accounts" not in text
    assert "owner@example.com" not in text


@pytest.mark.parametrize("count", [1, 12])
def test_pages_take_few_queries(
    admin_client: Client, count: int, django_assert_max_num_queries: Any
) -> None:
    sites = [make_site(owner=f"owner{number}@example.com") for number in range(count)]
    ids = ",".join(str(one.account_id) for one in sites)
    for page in (
        "/admin/",
        "/admin/activity/",
        "/admin/activity/providers/",
        "/admin/health/",
        f"{DESK}?accounts={ids}",
        reverse("admin:timeline", args=[sites[0].account_id]),
        reverse("admin:channels_account_changelist"),
        reverse("admin:billing_creditaccount_changelist"),
    ):
        admin_client.get(page)
        with django_assert_max_num_queries(15, info=page):
            assert admin_client.get(page).status_code == 200


# --- Codes ----------------------------------------------------------------------------------------


def code_form(**changes: Any) -> dict[str, Any]:
    return {
        "token": str(uuid.uuid4()),
        "count": "3",
        "amount": "2.5",
        "max_redemptions": "1",
        "last_day": "",
        "credits_last_days": "",
        "note": "Spring",
    } | changes


def test_codes_are_made_once_and_shown(admin_client: Client) -> None:
    sent = code_form()
    shown = [
        re.findall(r"(?:[A-Z0-9]{4}-){3}[A-Z0-9]{4}", text_of(response))
        for response in (admin_client.post("/admin/credits/codes/", sent) for _ in range(2))
    ]
    codes = list(RedemptionCode.objects.order_by("id"))
    assert shown[0] == shown[1]
    assert [redemptions.find_code(text) for text in shown[0]] == codes
    assert len(codes) == 3
    for code in codes:
        assert code.amount_microcredits == 2_500_000
        assert code.created_by is not None


def test_codes_are_shown_once_and_found_by_ending_or_whole(admin_client: Client) -> None:
    admin_client.post("/admin/credits/codes/", code_form(token=str(uuid.uuid4()), count="1"))
    made = admin_client.post("/admin/credits/codes/", code_form(count="1"))
    (text,) = re.findall(r"(?:[A-Z0-9]{4}-){3}[A-Z0-9]{4}", text_of(made))
    (other,) = RedemptionCode.objects.exclude(id=redemptions.find_code(text).id)  # type: ignore[union-attr]
    page = reverse("admin:billing_redemptioncode_changelist")
    for query in ("", text, text.lower(), text[-4:]):
        response = admin_client.get(page, {"q": query})
        found = [row.masked for row in response.context["cl"].result_list]
        assert found == [f"…{text[-4:]}"] + [other.masked] * (query == "")
        assert (text in text_of(response)) is (query == text)
        assert f"…{text[-4:]}" in text_of(response)
    detail = reverse("admin:billing_redemptioncode_change", args=[other.id])
    assert other.code_digest not in text_of(admin_client.get(detail))


@pytest.mark.parametrize(
    "changes",
    [
        {"count": "0"},
        {"count": "501"},
        {"amount": "0"},
        {"amount": "-1"},
        {"max_redemptions": "0"},
        {"last_day": "2020-01-01"},
        {"credits_last_days": "0"},
        {"note": ""},
        {"token": ""},
    ],
)
def test_wrong_codes_are_refused(admin_client: Client, changes: dict[str, str]) -> None:
    response = admin_client.post("/admin/credits/codes/", code_form(**changes))
    assert response.status_code == 422
    assert not RedemptionCode.objects.exists()


def test_codes_are_switched_off_and_on_and_nothing_else(admin_client: Client) -> None:
    admin_client.post("/admin/credits/codes/", code_form(count="1"))
    code = RedemptionCode.objects.get()
    page = reverse("admin:billing_redemptioncode_changelist")
    for action, is_enabled in (("disable", False), ("enable", True)):
        admin_client.post(page, {"action": action, "_selected_action": [str(code.id)]})
        code.refresh_from_db()
        assert code.is_enabled is is_enabled
    change = reverse("admin:billing_redemptioncode_change", args=[code.id])
    assert admin_client.post(change, {"amount_microcredits": "1"}).status_code == 403
    client = staff_client("view_redemptioncode")
    client.post(page, {"action": "disable", "_selected_action": [str(code.id)]})
    code.refresh_from_db()
    assert code.is_enabled


# --- Routes, health -------------------------------------------------------------------------------


def test_a_route_is_tested_by_a_click(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = Route.objects.select_related("provider").all()[0]
    completion = Completion("<b>pong</b>", "stop", Usage(9, 2), "real")
    names = route.provider.name, route.provider_model
    answers = iter([Result(*names, 42, completion), Result(*names, 5, None, "status_401", True)])
    monkeypatch.setattr(route_tests, "try_route", lambda route: next(answers))
    url = reverse("admin:test_route", args=[route.id])
    assert "The route answers" not in text_of(admin_client.get(url))
    good = text_of(admin_client.post(url))
    assert "&lt;b&gt;pong&lt;/b&gt;" in good
    assert "42 ms" in good
    bad = text_of(admin_client.post(url))
    assert "does not accept the key" in bad
    assert "status_401" in bad
    assert admin_client.get("/admin/routes/999999/test/").status_code == 404


def test_health_tells_what_is_wrong(
    admin_client: Client, site: Site, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    FailedRequest.objects.create(
        channel=site.channel, is_test=False, error_code="provider_error", created_at=timezone.now()
    )
    error = ProviderError("status_401", fault=Fault.BROKEN)
    breaker.note_failure("groq", "llama", error, now=timezone.now())
    breaker.note_failure("groq", "other", ProviderError("timeout"), now=timezone.now())
    verification.verify_and_alert()
    response = admin_client.get("/admin/health/")
    text = text_of(response)
    for words in ("No difference", "does not accept the key", "provider_error", "answers"):
        assert words in text
    assert {route["state"] for route in response.context["routes"]} == {"open", "closed"}
    assert response.context["hour"].requests == 2


def test_the_books_are_proven_by_a_worker_where_there_is_one(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "find_workers", list)
    asked = text_of(admin_client.post("/admin/health/workers/", follow=True))
    assert "No worker answers" in asked
    queued: list[bool] = []
    monkeypatch.setattr(worker, "find_workers", lambda: ["celery@here"])
    monkeypatch.setattr(tasks.verify_ledger, "delay", lambda: queued.append(True))
    assert "A worker is verifying" in text_of(
        admin_client.post("/admin/health/verify/", follow=True)
    )
    assert "celery@here" in text_of(admin_client.post("/admin/health/workers/", follow=True))
    assert queued == [True]
    assert not VerificationRun.objects.exists()
    assert admin_client.get("/admin/health/verify/")["Location"] == "/admin/health/"


def test_small_books_are_proven_without_a_worker(
    admin_client: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "find_workers", list)
    agreed = text_of(admin_client.post("/admin/health/verify/", follow=True))
    assert "The ledger has no differences." in agreed
    assert VerificationRun.objects.get().entry_count == 1
    CreditAccount.objects.update(spent_microcredits=1)
    differing = text_of(admin_client.post("/admin/health/verify/", follow=True))
    assert re.search(r"The ledger has \d+ differences?\.", differing)
    assert VerificationRun.objects.filter(difference_count__gt=0).count() == 1


def test_how_large_books_are_proven_without_a_worker_is_said(
    admin_client: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "find_workers", list)
    monkeypatch.setattr(health, "PROVEN_AT_ONCE", 1)
    assert ApiClient(site.test_key).chat().status_code == 200
    without = text_of(admin_client.post("/admin/health/verify/", follow=True))
    assert "manage.py verifyledger" in without
    assert not VerificationRun.objects.exists()


STAFF_PAGES = (
    "/admin/",
    "/admin/health/",
    "/admin/credits/requests/",
    "/admin/channels/account/",
    "/admin/channels/plan/add/",
)


def test_a_missing_worker_is_named_with_what_to_do(admin_client: Client) -> None:
    for page in STAFF_PAGES:
        text = text_of(admin_client.get(page))
        assert text.count("No worker is running: no scheduled work") == 1, page
    other = staff_client("view_account")
    assert "No worker is running" not in text_of(other.get("/admin/channels/account/"))
    heartbeat.beat()
    for page in STAFF_PAGES:
        assert "No worker is running" not in text_of(admin_client.get(page)), page
    assert "The worker last reported at" in text_of(admin_client.get("/admin/health/"))


def test_a_missing_provider_is_named_on_every_page(admin_client: Client, settings: Any) -> None:
    for page in STAFF_PAGES:
        assert text_of(admin_client.get(page)).count("No AI provider is set up") == 1, page
    settings.PROVIDER_BASE_URL = "http://llm.example/v1"
    for page in STAFF_PAGES:
        assert "No AI provider is set up" not in text_of(admin_client.get(page)), page


# --- The catalogue and channels -------------------------------------------------------------------


def test_prices_are_typed_in_credits_and_audited(admin_client: Client) -> None:
    model = LanguageModel.objects.all()[0]
    url = reverse("admin:channels_languagemodel_change", args=[model.pk])
    page = admin_client.get(url)
    assert page.context["adminform"].form["price_per_reply_microcredits"].value() == "1"
    sent = {
        "name": model.name,
        "model_id": model.model_id,
        "context_window_tokens": model.context_window_tokens,
        "max_output_tokens": model.max_output_tokens,
        "image_tokens": 0,
        "speed_tps": model.speed_tps,
        "best_for": model.best_for,
        "price_per_reply_microcredits": "0.25",
        "first_token_seconds": 0,
        "hides_thinking": "on",
        "price_per_1k_input_tokens_microcredits": "0.000001",
        "price_per_1k_output_tokens_microcredits": "0",
        "is_enabled": "on",
        "position": model.position,
        "routes-TOTAL_FORMS": "0",
        "routes-INITIAL_FORMS": "0",
    }
    assert admin_client.post(url, sent).status_code == 302
    model.refresh_from_db()
    assert model.price_per_reply_microcredits == 250_000
    assert model.price_per_1k_input_tokens_microcredits == 1
    entry = AuditEntry.objects.get(action="languagemodel.updated")
    assert entry.account_id is None
    assert entry.changes == {
        "price_per_reply_microcredits": [1_000_000, 250_000],
        "price_per_1k_input_tokens_microcredits": [0, 1],
    }
    for wrong in ("", "-1", "0.0000001", "x"):
        refused = admin_client.post(url, sent | {"price_per_reply_microcredits": wrong})
        assert refused.status_code == 200
    cached = "price_per_1k_cached_input_tokens_microcredits"
    refused = admin_client.post(url, sent | {cached: "0.000002"})
    assert "Cached input must not cost more than other input." in text_of(refused)
    assert AuditEntry.objects.filter(action="languagemodel.updated").count() == 1
    assert admin_client.post(url, sent | {cached: "0.000001"}).status_code == 302
    model.refresh_from_db()
    assert model.price_per_1k_cached_input_tokens_microcredits == 1
    assert "0.000001 (0.000001) / 0" in text_of(
        admin_client.get(reverse("admin:channels_languagemodel_changelist"))
    )


def channel_form(channel: Channel, **changes: Any) -> dict[str, Any]:
    return {
        "account": channel.account_id,
        "name": channel.name,
        "site_url": channel.site_url,
        "is_enabled": "on",
        "model": channel.model_id,
        "system_prompt": channel.system_prompt,
        "requests_per_minute": channel.requests_per_minute,
        "daily_quota": channel.daily_quota,
        "fallback_replies": "{}",
        "fixed_answers-TOTAL_FORMS": "0",
        "fixed_answers-INITIAL_FORMS": "0",
    } | changes


def test_staff_change_a_channel_through_its_services(admin_client: Client, site: Site) -> None:
    url = reverse("admin:channels_channel_change", args=[site.channel.pk])
    sent = channel_form(site.channel, system_prompt="Be brief.", daily_quota="7")
    assert admin_client.post(url, sent).status_code == 302
    channel = Channel.objects.get(id=site.channel.id)
    assert (channel.prompt_version, channel.daily_quota) == (2, 7)
    version = PromptVersion.objects.get(channel=channel, number=2)
    assert version.author is not None
    assert version.author.email == "admin@example.com"
    entry = AuditEntry.objects.get(action="channel.updated")
    assert set(entry.changes) == {"system_prompt", "daily_quota"}


def test_staff_make_a_channel_through_its_services(admin_client: Client, site: Site) -> None:
    sent = channel_form(site.channel, name="Second")
    assert admin_client.post(reverse("admin:channels_channel_add"), sent).status_code == 302
    channel = Channel.objects.get(name="Second")
    assert PromptVersion.objects.filter(channel=channel, number=1).exists()
    assert AuditEntry.objects.filter(action="channel.created", channel=channel).exists()


def test_providers_and_plans_are_audited_without_keys(admin_client: Client) -> None:
    key = "sk-never-in-the-log"
    provider = {"name": "acme", "base_url": "https://acme.test/v1", "new_key": key}
    admin_client.post(reverse("admin:channels_provider_add"), provider)
    plan = {"name": "Gold", "monthly_grant_microcredits": "12.5"}
    admin_client.post(reverse("admin:channels_plan_add"), plan)
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"provider.created", "provider.key_set", "plan.created"} <= actions
    for entry in AuditEntry.objects.all():
        assert entry.account_id is None
        assert key not in f"{entry.changes} {entry.target}"


def test_only_superusers_give_powers_away(site: Site) -> None:
    boss = User.objects.create_superuser("boss@example.com")
    colleague = User.objects.create_user("colleague@example.com", is_staff=True)
    owner = User.objects.get(email="owner@example.com")
    client = staff_client("change_user", "view_user")
    page = reverse("admin:channels_user_change", args=[owner.pk])
    form_fields = client.get(page).context["adminform"].form.fields
    assert not {"is_superuser", "is_staff", "groups"} & set(form_fields)
    for name in ("channels_user_change", "auth_user_password_change"):
        for above in (boss, colleague):
            url = reverse(f"admin:{name}", args=[above.pk])
            assert client.post(url, {"email": "mine@example.com"}).status_code == 403


def test_times_in_lists_say_that_they_are_utc(admin_client: Client, site: Site, clock: Any) -> None:
    Account.objects.create(name="Noon")
    account = Account.objects.get(name="Noon")
    page = reverse("admin:channels_account_change", args=[account.pk])
    assert "5 Apr 2026, 12:00:00 UTC" in text_of(admin_client.get(page))


@pytest.mark.parametrize(
    ("permissions", "leads_to"),
    [
        (("view_redemptioncode",), "admin:billing_redemptioncode_changelist"),
        (("view_redemptioncode", "add_redemptioncode"), "admin:billing_redemptioncode_changelist"),
        (("add_redemptioncode", "add_ledgerentry"), "admin:make_codes"),
        # Creating codes means granting credits, so this permission alone opens neither page.
        (("add_redemptioncode",), None),
        (("view_account",), None),
    ],
)
def test_the_link_to_codes_is_for_who_may_see_or_make_some(
    permissions: tuple[str, ...], leads_to: str | None
) -> None:
    client = staff_client(*permissions)
    links = {one["title"]: one["url"] for one in client.get("/admin/").context["links"]}
    assert links.get("Redemption codes") == (leads_to and reverse(leads_to))
    if leads_to:
        assert client.get(reverse(leads_to)).status_code == 200

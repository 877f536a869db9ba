"""Staff pages in another language: names that nobody wrote down, and what is stored."""

from __future__ import annotations

import html
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import translation
from django.utils.translation import trans_real

from billing.models import LedgerEntry
from channels.models import (
    Account,
    AuditEntry,
    Channel,
    FixedAnswer,
    LanguageModel,
    Provider,
    Route,
)
from channels.tests.factories import Site
from dashboard.staff import worker
from tests.support import pseudo_language
from tests.support.clients import text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with override_settings(LANGUAGES=[("en", "English"), ("de", "Deutsch")]):
        marks = pseudo_language.Marked("de")
        monkeypatch.setitem(trans_real._translations, "de", marks)  # type: ignore[attr-defined]
        yield


def test_derived_names_are_translated(marked: None) -> None:
    options = LedgerEntry._meta
    with translation.override("de"):
        assert str(options.get_field("created_at").verbose_name) == "⟦created at⟧"
        assert str(options.verbose_name) == "⟦ledger entry⟧"
        assert str(FixedAnswer._meta.verbose_name_plural) == "⟦saved replies⟧"
    assert str(options.get_field("created_at").verbose_name) == "created at"


def test_permissions_keep_their_english_names(marked: None) -> None:
    with translation.override("de"):
        names = {model._meta.verbose_name_raw for model in apps.get_models()}
    assert not {name for name in names if pseudo_language.OPEN in name}


def test_the_audit_log_stores_english(admin_client: Client, marked: None) -> None:
    model = LanguageModel.objects.create(
        model_id="m", name="M", context_window_tokens=4096, max_output_tokens=512
    )
    provider = Provider.objects.create(name="near", base_url="https://near.example/v1")
    route = Route.objects.create(model=model, provider=provider, provider_model="m-1")
    values = {"model": model.pk, "provider": provider.pk, "provider_model": "m-2", "position": 3,
              "limit_name": "", "allowed_parameters": "", "is_enabled": "on"}  # fmt: skip
    path = reverse("admin:channels_route_change", args=[route.pk])
    page = admin_client.post(path, values, follow=True, headers={"Accept-Language": "de"})
    assert "⟦M at near⟧" in page.content.decode()
    assert AuditEntry.objects.get(action="route.updated").target == "M at near"


def test_every_scheduled_task_has_a_name_for_translators() -> None:
    assert set(worker.app.conf.beat_schedule) == set(worker.NAMES)


# --- Names that people gave ---------------------------------------------------------------------


def test_the_frame_never_changes_a_name(site: Site, admin_client: Client) -> None:
    Account.objects.filter(id=site.account_id).update(name="anna's shop")
    Channel.objects.filter(id=site.channel.id).update(name="éclair")
    account, channel = f"channels/account/{site.account_id}", f"channels/channel/{site.channel.id}"
    for path, name in (
        (f"/admin/{account}/change/", "anna's shop"),
        (f"/admin/{account}/history/", "anna's shop"),
        (f"/admin/accounts/{site.account_id}/", "anna's shop"),
        (f"/admin/{channel}/change/", "éclair"),
        (f"/admin/{channel}/history/", "éclair"),
    ):
        page = html.unescape(text_of(admin_client.get(path)))
        title = page.partition("gw-topbar-title")[2].partition("</h1>")[0]
        assert f"> {name} <" in title, path
        assert name.capitalize() not in page

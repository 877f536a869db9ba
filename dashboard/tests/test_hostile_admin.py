"""Robustness of the staff pages against any id, filter, action, or choice.

Generated from what is registered, so new models, filters, actions, and fields are covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import reverse

import gateway.urls  # noqa: F401  # registers what the staff admin shows
from channels.models import User
from channels.tests.factories import Site
from common.pages.admin import name_of_filter
from dashboard.tests.test_strangers import Tenant, make_tenant
from gateway.tests.test_hostile_input import try_it
from tests.support.clients import log_in
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
VALUES = ("abc", "9" * 30, "9" * 5_000, "a\x00b", "\ud800")


@pytest.fixture
def tenant(provider: FakeProvider, db: None) -> Tenant:
    return make_tenant("mine", "own", provider)


@pytest.fixture
def boss(tenant: Tenant) -> Client:
    return log_in(User.objects.create_superuser("boss@example.com"))


def page_of(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def failures_of(client: Client, method: str, asked: Iterable[tuple[str, dict[str, str]]]) -> str:
    """Return which pages failed, and how, one line each."""
    found = []
    for path, data in asked:
        sent = {name: one.encode("utf-8", "surrogatepass") for name, one in data.items()}
        if failure := try_it(client, method, path, sent):
            found.append(f"{failure} with { ({name: one[:20] for name, one in data.items()}) }")
    return "\n".join(found)


def filters_of(model: type[Model], value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the list page with every filter it knows, and the parameters its links carry."""
    registered: Any = admin.site._registry[model]
    page = page_of(model, "changelist")
    names = [name_of_filter(one) for one in registered.list_filter]
    linked = getattr(registered, "linked_filters", ())
    for name in (*names, *linked):
        for ending in ("", "__exact", "__id__exact", "__isnull"):
            yield page, {f"{name}{ending}": value}
    if registered.date_hierarchy:
        for part in ("year", "month", "day"):
            yield page, {f"{registered.date_hierarchy}__{part}": value}
    for name in ("q", "p", "o", "e", "all", "_facets", "_popup", "_to_field"):
        yield page, {name: value}


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_no_filter_of_a_list_fails(model: type[Model], boss: Client) -> None:
    asked = (one for value in VALUES for one in filters_of(model, value))
    assert failures_of(boss, "get", asked) == ""


def rows_pages(model: type[Model], value: str) -> Iterator[str]:
    """Yield every URL of a model that names a row, with another name for the row."""
    for pattern in admin.site._registry[model].urls:
        names = pattern.pattern.converters
        if pattern.name and names:
            row = "0123456789"
            address = reverse(f"admin:{pattern.name}", args=[row for _ in names])
            yield address.replace(row, value)


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_no_page_of_a_row_that_does_not_exist_fails(model: type[Model], boss: Client) -> None:
    for method in ("get", "post"):
        values = ("abc", "9" * 30, "-1", "%00", "%ED%A0%80", "_00")
        paths = [path for value in values for path in rows_pages(model, value)]
        assert paths
        assert failures_of(boss, method, ((path, {}) for path in paths)) == ""


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_no_page_fails_over_where_it_came_from(model: type[Model], boss: Client) -> None:
    row = model._default_manager.first()
    pages = [page_of(model, "changelist"), page_of(model, "add")]
    pages += [page_of(model, page, row.pk) for page in ("change", "delete")] if row else []
    asked = [
        (page, {"_changelist_filters": value, "_to_field": to_field, "_popup": "1"})
        for page in pages
        for value in ("a\x00b", "p=abc&o=x", "%00=1", "\ud800")
        for to_field in ("id", value)
    ]
    for method in ("get", "post"):
        assert failures_of(boss, method, asked) == ""


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_no_action_on_rows_that_do_not_exist_fails(model: type[Model], boss: Client) -> None:
    page, names = page_of(model, "changelist"), {"delete_selected", "none-such"}
    names |= {
        one if isinstance(one, str) else one.__name__
        for one in admin.site._registry[model].actions or ()
    }
    asked = [
        (page, {"action": name, "_selected_action": value, "post": "yes", **more})
        for name in sorted(names)
        for value in VALUES
        for more in ({}, {"index": value, "select_across": value})
    ]
    assert failures_of(boss, "post", asked) == ""


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_no_form_fails_over_what_is_chosen_in_it(model: type[Model], boss: Client) -> None:
    """Whatever choices the page offers, a client can send any text instead."""
    row = model._default_manager.first()
    pages = [page_of(model, "add")] + ([page_of(model, "change", row.pk)] if row else [])
    asked: list[tuple[str, Any]] = []
    for page in pages:
        response = boss.get(page)
        if response.status_code != 200:
            continue
        shown = response.context["adminform"].form
        names = [shown.add_prefix(name) for name in shown.fields]
        filled, counts = {"name": "x"}, ["_save"]
        for formset in response.context["inline_admin_formsets"]:
            prefix = formset.formset.prefix
            filled |= {f"{prefix}-TOTAL_FORMS": "1", f"{prefix}-INITIAL_FORMS": "0"}
            names += [f"{prefix}-0-{name}" for name in formset.formset.empty_form.fields]
            counts += [f"{prefix}-TOTAL_FORMS", f"{prefix}-INITIAL_FORMS"]
        asked += [(page, filled | dict.fromkeys(names, value)) for value in VALUES]
        asked += [(page, filled | dict.fromkeys(counts, value)) for value in VALUES]
    assert failures_of(boss, "post", asked) == ""


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model._meta.label)
def test_no_list_of_choices_fails(model: type[Model], boss: Client) -> None:
    asked = [
        (
            reverse("admin:autocomplete"),
            {"app_label": model._meta.app_label, "model_name": str(model._meta.model_name)}
            | {"field_name": name, "term": "a", "page": "1"}
            | {asked: value},
        )
        for name in admin.site._registry[model].autocomplete_fields
        for value in VALUES
        for asked in ("term", "page", "field_name", "model_name", "app_label")
    ]
    assert failures_of(boss, "get", asked) == ""


def test_a_nul_in_a_bookings_token_finds_nothing(site: Site, admin_client: Client) -> None:
    """PostgreSQL cannot compare text with NUL."""
    query = {"accounts": str(site.account_id), "token": "a\0b"}
    assert admin_client.get("/admin/credits/booked/", query).status_code == 200

"""Rotating SECRET_KEY: what the earlier key signed stays valid while that key is a fallback."""

from __future__ import annotations

import re

import pytest
from django.core import mail
from django.test import Client
from pytest_django import Settings

from channels.models import User
from tests.support.clients import try_password

pytestmark = pytest.mark.django_db

PASSWORD = "a-long-password-1"
NEW_KEY = "another-key-" + "y" * 50


@pytest.fixture(autouse=True)
def _fresh_attempts(forget_attempts: object) -> None:
    """Forget requested e-mails, which the cache counts."""


def swap(settings: Settings, *, is_overlap: bool) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY] if is_overlap else []
    settings.SECRET_KEY = NEW_KEY


def link_in_mail() -> str:
    (found,) = re.findall(r"http://[^/]+(/\S+)", str(mail.outbox[-1].body))[:1]
    return str(found)


@pytest.mark.parametrize("is_overlap", [True, False])
def test_a_log_in_lasts_as_long_as_the_overlap(settings: Settings, is_overlap: bool) -> None:
    user = User.objects.create_superuser("anna@example.com", PASSWORD)
    client = try_password(user.email, PASSWORD)
    assert client.get("/admin/").status_code == 200
    swap(settings, is_overlap=is_overlap)
    assert client.get("/admin/").status_code == (200 if is_overlap else 302)
    # From here on, only the new key signs.
    settings.SECRET_KEY_FALLBACKS = []
    assert client.get("/admin/").status_code == (200 if is_overlap else 302)


@pytest.mark.parametrize("is_overlap", [True, False])
def test_a_link_to_a_new_password_works_in_the_overlap(
    settings: Settings, is_overlap: bool
) -> None:
    user = User.objects.create_user("anna@example.com", PASSWORD)
    Client().post("/accounts/password/reset/", {"email": user.email})
    link = link_in_mail()
    swap(settings, is_overlap=is_overlap)
    page = Client().get(link, follow=True).content.decode()
    assert ('name="password1"' in page) is is_overlap


@pytest.mark.parametrize("is_overlap", [True, False])
def test_a_link_that_proves_an_address_works_in_the_overlap(
    settings: Settings, is_overlap: bool
) -> None:
    form = {"email": "anna@example.com", "password1": PASSWORD}
    Client().post("/accounts/signup/", form)
    link = link_in_mail()
    swap(settings, is_overlap=is_overlap)
    Client().post(link)
    proven = User.objects.get().emailaddress_set.filter(verified=True)  # type: ignore[attr-defined]
    assert proven.exists() is is_overlap

"""Guessing a password is told to wait; everybody else signs in."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from channels.models import User
from gateway import sites

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def staff(settings: Any) -> User:
    settings.TRUSTED_PROXY_COUNT = 1
    email = f"{uuid.uuid4()}@example.com"  # Redis remembers longer than a test
    return User.objects.create_superuser(email, "right-password")


def log_in(user: User, password: str, *, address: str) -> str:
    response = Client().post(
        "/admin/login/",
        {"username": user.email, "password": password, "next": "/admin/"},
        headers={"X-Forwarded-For": address},
    )
    if response.status_code == 302:
        return "in"
    return "wait" if "Too many attempts" in response.content.decode() else "wrong"


def test_signs_in(staff: User) -> None:
    assert log_in(staff, "right-password", address=str(uuid.uuid4())) == "in"


def test_a_guessed_name_waits_wherever_it_comes_from(staff: User) -> None:
    tries = [
        log_in(staff, "wrong", address=str(uuid.uuid4())) for _ in range(sites.LOG_INS_PER_NAME + 1)
    ]
    assert tries == ["wrong"] * sites.LOG_INS_PER_NAME + ["wait"]
    assert log_in(staff, "right-password", address=str(uuid.uuid4())) == "wait"


def test_an_address_waits_whomever_it_tries(staff: User) -> None:
    address = str(uuid.uuid4())
    for _ in range(sites.LOG_INS_PER_ADDRESS):
        somebody = User(email=f"{uuid.uuid4()}@example.com")
        assert log_in(somebody, "wrong", address=address) == "wrong"
    assert log_in(staff, "right-password", address=address) == "wait"
    assert log_in(staff, "right-password", address=str(uuid.uuid4())) == "in"

"""Operators get one e-mail about each problem that only they can fix."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from channels import alerts, breaker
from channels.breaker import Claim
from channels.errors import Fault, ProviderError
from channels.models import User
from channels.tasks import alert_of_broken_routes

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _people() -> None:
    User.objects.create_superuser("boss@example.com")
    User.objects.create_user("staff@example.com", is_staff=True)
    User.objects.create_superuser("gone@example.com", is_active=False)


def fail(fault: Fault = Fault.BROKEN) -> None:
    error = ProviderError("status_401", fault=fault)
    breaker.note_failure("groq", "llama", error, now=timezone.now())


def test_a_broken_route_is_told_of_once() -> None:
    fail()
    fail()
    assert [alert_of_broken_routes(), alert_of_broken_routes()] == [1, 0]
    (sent,) = mail.outbox
    assert sent.to == ["boss@example.com"]
    assert "groq refuses llama: status_401" in sent.body


def test_a_route_that_broke_again_is_told_of_again() -> None:
    for _ in range(2):
        fail()
        assert alert_of_broken_routes() == 1
        now = timezone.now()
        breaker.note_probe_success("groq", "llama", Claim(False, until=now, opened_at=now))


@pytest.mark.parametrize("fault", [Fault.DOUBTFUL, Fault.UNREACHABLE])
def test_a_passing_failure_is_not_told_of(fault: Fault) -> None:
    for _ in range(9):
        fail(fault)
    assert alert_of_broken_routes() == 0


def test_a_lost_mail_server_delays_the_news(monkeypatch: pytest.MonkeyPatch) -> None:
    fail()

    def refuse(*args: Any) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as patched:
        patched.setattr(alerts, "send_mail", refuse)
        assert alert_of_broken_routes() == 0
    assert alert_of_broken_routes() == 1

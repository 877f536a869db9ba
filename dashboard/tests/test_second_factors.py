"""Second-factor secrets: bound to their rows, never in clear text, independent of each other."""

from __future__ import annotations

import base64
import json
import logging
import random
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.contrib.sessions.models import Session
from django.test import Client
from pytest_django import Settings

from channels import second_factors
from channels.errors import WrongSecrets
from channels.models import LoginSession, User
from channels.second_factors import MEMBERS
from common import crypto
from dashboard.login import passkeys
from gateway import rotation
from tests.support.clients import try_password

# A code lasts for 30 seconds. A frozen clock keeps a test within one period.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

PASSWORD = "a-long-password-1"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def _fresh_attempts(forget_attempts: Any) -> None:
    """Forget used codes, which the cache remembers."""


def code_now(secret: str = SECRET) -> str:
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30)))


def make_user(email: str, secret: str = SECRET) -> User:
    user = User.objects.create_user(email, PASSWORD)
    TOTP.activate(user, secret)
    RecoveryCodes.activate(user)
    return user


def factor_of(user: User, kind: str = "totp") -> Authenticator:
    return Authenticator.objects.get(user=user, type=kind)


def text_of(factor: Authenticator) -> str:
    return str(factor.data[MEMBERS[factor.type]])


def put(factor: Authenticator, text: str) -> None:
    factor.data[MEMBERS[factor.type]] = text
    factor.save()


def log_in_with(user: User, code: str) -> bool:
    client = try_password(user.email, PASSWORD)
    response = client.post("/accounts/2fa/authenticate/", {"code": code})
    assert response.status_code in (200, 302)
    return "_auth_user_id" in client.session


def unbound(clear: str) -> str:
    """Return a secret as it was stored before secrets were bound to rows."""
    key_id, sealed = crypto.encrypt(clear, context="mfa_authenticator.data")
    return f"{key_id}:{base64.b64encode(sealed).decode()}"


def test_a_secret_of_another_row_opens_nothing(caplog: pytest.LogCaptureFixture) -> None:
    victim, thief = make_user("victim@example.com"), make_user("thief@example.com")
    put(factor_of(victim), text_of(factor_of(thief)))
    with caplog.at_level(logging.ERROR, "gateway.accounts"):
        assert not log_in_with(victim, code_now())
    assert [record.message for record in caplog.records] == ["accounts.second_factor.unreadable"]
    assert log_in_with(thief, code_now())


def test_a_secret_of_another_kind_opens_nothing() -> None:
    user = make_user("anna@example.com")
    put(factor_of(user, "recovery_codes"), text_of(factor_of(user)))
    assert factor_of(user, "recovery_codes").wrap().generate_codes() == []
    assert log_in_with(user, code_now())


def test_a_damaged_secret_leaves_the_other_ways_open() -> None:
    user = make_user("anna@example.com")
    (first, *_) = factor_of(user, "recovery_codes").wrap().get_unused_codes()
    for broken in ("", "t1:", "row:t1:AAAA", "row:gone:AAAA", "nonsense", "row:t1:%%"):
        put(factor_of(user), broken)
        assert not factor_of(user).wrap().validate_code(code_now()), broken
    assert log_in_with(user, first)


def test_recovery_codes_work_once_each() -> None:
    user = make_user("anna@example.com")
    (first, second, *_) = factor_of(user, "recovery_codes").wrap().get_unused_codes()
    assert log_in_with(user, first)
    assert not log_in_with(user, first)
    assert log_in_with(user, second)


def test_no_session_row_holds_a_secret_in_clear_during_activation() -> None:
    user = User.objects.create_user("anna@example.com", PASSWORD)
    client = try_password(user.email, PASSWORD)
    page = client.get("/accounts/2fa/totp/activate/").content.decode()
    found = re.search(r'id="authenticator_secret" value="([A-Z2-7]+)"', page)
    assert found
    secret = found[1]
    for row in Session.objects.all():
        assert secret not in row.session_data
        assert secret not in json.dumps(row.get_decoded())
    wrong = client.post("/accounts/2fa/totp/activate/", {"code": "000000"})
    assert secret in wrong.content.decode(), "a wrong code does not change the secret"
    client.post("/accounts/2fa/totp/activate/", {"code": code_now(secret)})
    assert factor_of(user).wrap().validate_code(code_now(secret))
    assert secret not in text_of(factor_of(user))


def test_a_pending_secret_that_cannot_be_read_is_drawn_again(settings: Settings) -> None:
    user = User.objects.create_user("anna@example.com", PASSWORD)
    client = try_password(user.email, PASSWORD)
    client.get("/accounts/2fa/totp/activate/")
    session = client.session
    session["mfa.totp.secret"] = "row:t1:AAAA"
    session.save()
    page = client.post("/accounts/2fa/totp/activate/", {"code": "000000"})
    assert page.status_code == 200
    assert re.search(r'id="authenticator_secret" value="([A-Z2-7]{32})"', page.content.decode())


def test_unbound_secrets_open_and_are_bound_by_a_rotation() -> None:
    user = make_user("anna@example.com")
    codes = factor_of(user, "recovery_codes").wrap().get_unused_codes()
    put(factor_of(user), unbound(SECRET))
    seed = second_factors.open_text(
        text_of(factor_of(user, "recovery_codes")),
        context=second_factors.context_of(user_id=user.id, kind="recovery_codes"),
    )
    put(factor_of(user, "recovery_codes"), unbound(seed))
    assert log_in_with(user, codes[0])
    list(rotation.rewrite_all())
    for kind in MEMBERS:
        assert second_factors.is_bound(text_of(factor_of(user, kind)))
    assert factor_of(user, "recovery_codes").wrap().get_unused_codes() == codes[1:]
    assert log_in_with(user, code_now())


def test_a_key_that_only_second_factors_need_is_asked_for_at_the_start(
    settings: Settings,
) -> None:
    from django.core import checks

    make_user("anna@example.com")
    other = base64.b64encode(b"x" * 32).decode()
    settings.ENCRYPTION_KEYS = f"k2:{other}"
    ids = [message.id for message in checks.run_checks(databases=["default"])]
    assert "channels.E001" in ids
    with pytest.raises(WrongSecrets):
        make_user("bert@example.com")


def test_strangers_get_a_limited_number_of_challenges(
    monkeypatch: pytest.MonkeyPatch, forget_attempts: Callable[[], None]
) -> None:
    """Each is a session: they could fill the table."""
    monkeypatch.setattr(passkeys, "CHALLENGES_PER_MINUTE", 3)
    headers = {"X-Requested-With": "XMLHttpRequest"}
    address = f"203.0.113.{random.randrange(256)}"  # Redis remembers those of earlier runs
    url = "/accounts/2fa/webauthn/login/"
    statuses = [Client(headers=headers, REMOTE_ADDR=address).get(url).status_code for _ in range(5)]
    assert statuses == [200] * 3 + [429] * 2
    assert LoginSession.objects.count() == 3

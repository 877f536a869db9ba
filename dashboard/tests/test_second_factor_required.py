"""A required second factor: for staff by a setting, for members by their account."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.test import Client
from django.urls import reverse

from channels.models import Account, AuditEntry, User
from channels.tests.factories import Site
from dashboard.login import backend, gate
from dashboard.tests.test_accounts import SECRET
from dashboard.tests.test_asking_again import address_of, pages
from tests.support.clients import ApiClient, log_in, member_client, owner_client, owner_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

SETUP = "/accounts/2fa/"


@pytest.fixture
def strict(site: Site) -> Site:
    Account.objects.filter(id=site.account_id).update(requires_second_factor=True)
    return site


def leads_to_setup(client: Client, address: str = "/") -> bool:
    return bool(client.get(address).headers.get("Location") == SETUP)


def test_a_member_without_one_can_do_nothing_else(strict: Site) -> None:
    client = member_client(strict, "editor")
    for name in pages():
        if name in gate.WITHOUT_FACTOR or name == "console:show_key":
            continue
        for method in (client.get, client.post):
            answer = method(address_of(name))
            assert (answer.status_code, answer.headers.get("Location")) == (302, SETUP), name


def test_the_way_to_one_is_open_and_so_is_the_way_out(strict: Site) -> None:
    client = member_client(strict, "editor")
    text = client.get(SETUP).content.decode()
    assert "An account you belong to requires a second factor" in text
    assert client.get("/accounts/2fa/totp/activate/").status_code == 200
    assert client.get("/docs/").status_code == 200
    assert client.post(reverse("console:logout"))["Location"] == "/accounts/login/"
    assert "_auth_user_id" not in client.session


def test_scripts_are_led_there_too(strict: Site) -> None:
    client = member_client(strict, "editor")
    answer = client.post(reverse("console:redeem_code"), headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()) == (403, {"redirect": SETUP})


def test_with_one_everything_is_open_and_without_it_closed_again(strict: Site) -> None:
    client, user = owner_client(strict), owner_of(strict)
    assert leads_to_setup(client)
    RecoveryCodes.activate(user)
    assert leads_to_setup(client), "codes for the day one loses a factor are none"
    TOTP.activate(user, SECRET)
    assert client.get("/").status_code == 200
    assert "requires a second factor" not in client.get(SETUP).content.decode()
    Authenticator.objects.filter(user=user).delete()
    assert leads_to_setup(client)


def test_a_passkey_is_one(strict: Site) -> None:
    data = {"credential": {}, "name": "Key"}
    Authenticator.objects.create(user=owner_of(strict), type="webauthn", data=data)
    assert owner_client(strict).get("/").status_code == 200


def test_others_are_not_asked(strict: Site, stranger: Site) -> None:
    assert owner_client(stranger).get("/").status_code == 200


def test_keys_of_the_api_go_on_working(strict: Site) -> None:
    assert ApiClient(strict.test_key).chat().status_code == 200


def test_owners_require_it_and_it_is_audited(site: Site) -> None:
    client = owner_client(site)
    TOTP.activate(owner_of(site), SECRET)
    switch = reverse("console:team_second_factor")
    for _ in range(2):
        client.post(switch, {"required": "yes"})
    assert leads_to_setup(member_client(site, "viewer"))
    assert "Required" in client.get(reverse("console:team")).content.decode()
    client.post(switch, {"required": "no"})
    assert not Account.objects.get(id=site.account_id).requires_second_factor
    done = AuditEntry.objects.filter(action__startswith="account.second_factor")
    assert [entry.action for entry in done.order_by("id")] == [
        "account.second_factor_required",
        "account.second_factor_optional",
    ]


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_others_cannot_change_it(site: Site, role: str) -> None:
    client = member_client(site, role)
    switch = reverse("console:team_second_factor")
    assert client.post(switch, {"required": "yes"}).status_code == 403
    assert not Account.objects.get(id=site.account_id).requires_second_factor


def test_of_the_staff_the_setting_asks(site: Site, settings: Any) -> None:
    boss = User.objects.create_superuser("boss@example.com")
    client = log_in(boss)
    assert client.get("/admin/").status_code == 200
    settings.REQUIRE_STAFF_MFA = True
    assert leads_to_setup(client, "/admin/")
    assert "requires a second factor for staff" in client.get(SETUP).content.decode()
    TOTP.activate(boss, SECRET)
    assert client.get("/admin/").status_code == 200
    assert owner_client(site).get("/").status_code == 200


def test_a_person_is_loaded_whole_in_one_query(
    strict: Site, django_assert_num_queries: Any
) -> None:
    owner, loads = owner_of(strict), backend.PersonBackend()
    TOTP.activate(owner, SECRET)
    with django_assert_num_queries(1):
        loaded: Any = loads.get_user(owner.pk)
        assert (loaded.email, loaded.date_joined) == (owner.email, owner.date_joined)
        assert loaded.has_second_factor
        assert loaded.account_wants_factor
    # Neither the person without accounts nor nobody is mistaken for the one before.
    other: Any = loads.get_user(User.objects.create_user("other@example.com").pk)
    assert not other.has_second_factor
    assert not other.account_wants_factor
    assert loads.get_user(10**9) is None

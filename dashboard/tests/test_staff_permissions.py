"""Staff with some permissions cannot get more, nor send a provider's key elsewhere."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from channels.models import Membership, Provider, User
from channels.tests.factories import Site
from tests.support.clients import log_in

pytestmark = pytest.mark.django_db


def staff(*permissions: str) -> tuple[User, Client]:
    user = User.objects.create_user("helper@example.com", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user, log_in(user)


def test_staff_cannot_raise_their_own_powers_through_a_group() -> None:
    user, client = staff("view_group", "add_group", "change_group", "delete_group")
    group = Group.objects.create(name="Support")
    user.groups.add(group)
    everything = list(Permission.objects.values_list("pk", flat=True))
    form = {"name": "Support", "permissions": everything}
    assert client.get(f"/admin/auth/group/{group.pk}/change/").status_code == 200
    assert client.post(f"/admin/auth/group/{group.pk}/change/", form).status_code == 403
    assert client.post("/admin/auth/group/add/", form | {"name": "Mine"}).status_code == 403
    assert client.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"}).status_code == 403
    assert not group.permissions.exists()


def test_only_superusers_say_where_a_providers_key_goes() -> None:
    _, client = staff("view_provider", "add_provider", "change_provider")
    provider = Provider.objects.get(name="groq")
    page = f"/admin/channels/provider/{provider.pk}/change/"
    elsewhere = {"name": "groq", "base_url": "https://elsewhere.example/v1", "is_enabled": "on"}
    assert client.post(page, elsewhere | {"key_setting": "OPENROUTER_API_KEY"}).status_code == 302
    after = Provider.objects.get(pk=provider.pk)
    assert (after.base_url, after.key_setting) == (provider.base_url, provider.key_setting)
    new = elsewhere | {"name": "mine", "key_setting": "GROQ_API_KEY"}
    assert client.post("/admin/channels/provider/add/", new).status_code == 302
    assert Provider.objects.get(name="mine").key_setting == ""


def test_staff_cannot_make_themselves_a_member(site: Site) -> None:
    user, client = staff(
        "view_membership", "add_membership", "change_membership", "view_account", "change_account"
    )
    account = site.channel.account
    form = {"account": account.pk, "user": user.pk, "role": "owner"}
    assert client.post("/admin/channels/membership/add/", form).status_code == 403
    row = Membership.objects.get(account=account)
    page = f"/admin/channels/membership/{row.pk}/change/"
    assert client.get(page).status_code == 200
    assert client.post(page, form).status_code == 403
    inline = {
        "name": account.name,
        "is_enabled": "on",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "0",
        "memberships-0-user": user.pk,
        "memberships-0-role": "owner",
    }
    client.post(f"/admin/channels/account/{account.pk}/change/", inline)
    assert not Membership.objects.filter(user=user).exists()


def test_staff_cannot_take_over_a_customers_log_in(site: Site) -> None:
    _, client = staff("view_user", "change_user", "view_account")
    owner = User.objects.get(email="owner@example.com")
    new = {"password1": "correct-horse-9", "password2": "correct-horse-9"}
    new["usable_password"] = "true"
    page = f"/admin/channels/user/{owner.pk}/password/"
    assert client.post(page, new).status_code == 403
    none = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    form = {"email": "mine@example.com", "first_name": "Ann", "is_active": "on"} | none
    assert client.post(f"/admin/channels/user/{owner.pk}/change/", form).status_code == 302
    after = User.objects.get(pk=owner.pk)
    assert (after.email, after.first_name) == ("owner@example.com", "Ann")
    assert after.password == owner.password

"""Users that the operator creates can log in, and so can users from before there was sign-up."""

from __future__ import annotations

import importlib

import pytest
from allauth.account.models import EmailAddress
from django.apps import apps
from django.core.management import call_command

from channels.models import User

pytestmark = pytest.mark.django_db


def addresses() -> list[tuple[str, bool, bool]]:
    return list(EmailAddress.objects.order_by("id").values_list("email", "verified", "primary"))


def test_who_is_made_by_hand_has_a_proven_address() -> None:
    User.objects.create_user("Anna@Example.com")
    call_command("createsuperuser", "--noinput", "--email", "boss@example.com")
    assert addresses() == [("anna@example.com", True, True), ("boss@example.com", True, True)]


def test_an_address_that_somebody_else_has_proven_stays_theirs() -> None:
    anna = User.objects.create_user("anna@example.com")
    EmailAddress.objects.filter(user=anna).update(email="shop@example.com")
    User.objects.create_user("shop@example.com")
    assert addresses() == [("shop@example.com", True, True)]


def test_users_from_before_are_counted_as_proven() -> None:
    migration = importlib.import_module("channels.migrations.0005_proven_addresses_of_users")
    known = User.objects.create_user("known@example.com")
    EmailAddress.objects.filter(user=known).update(verified=False)
    User.objects.create_user("Old@Example.com")
    EmailAddress.objects.exclude(user=known).delete()
    for _ in range(2):
        migration.count_as_proven(apps, None)
    assert addresses() == [("known@example.com", False, True), ("old@example.com", True, True)]

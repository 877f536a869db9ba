"""A key is rotated once and created once, even with many simultaneous requests."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from channels import api_keys, callers, channel_changes
from channels.audit import COMMAND_LINE
from channels.errors import KeyNotActive, MadeBefore
from channels.models import ApiKey, Channel
from channels.sealing import API_KEYS
from channels.tests.factories import make_site
from tests.support.threads import run_in_threads


@pytest.mark.django_db(transaction=True)
def test_of_rotations_at_once_one_makes_a_key() -> None:
    key = make_site().channel.api_keys.get(mode="live")

    def rotate(_: int) -> Any:
        try:
            fresh = ApiKey.objects.select_related("channel").get(id=key.id)
            return api_keys.rotate_api_key(
                api_key=fresh, overlap=timedelta(hours=1), actor=COMMAND_LINE
            )
        except KeyNotActive:
            return None

    assert len([issued for issued in run_in_threads(rotate, 6) if issued]) == 1
    assert ApiKey.objects.filter(mode="live").count() == 2


@pytest.mark.django_db
def test_a_key_is_stored_under_the_digest_that_its_look_up_computes() -> None:
    site = make_site()
    stored = ApiKey.objects.get(mode="live").key_digest
    assert (
        stored == API_KEYS.digests_of(site.api_key)[0] == callers.params_of(site.api_key)["digest"]
    )


@pytest.mark.django_db(transaction=True)
def test_of_forms_at_once_one_makes_the_channel() -> None:
    account = make_site().channel.account
    channel_id = uuid.uuid4()

    def create(_: int) -> Any:
        try:
            return channel_changes.create_channel_with_keys(
                account=account, name="New", id=channel_id
            )
        except MadeBefore:
            return None

    assert len([made for made in run_in_threads(create, 6) if made]) == 1
    assert Channel.objects.filter(name="New").count() == 1
    assert ApiKey.objects.filter(channel_id=channel_id).count() == 2


@pytest.mark.django_db
def test_a_key_that_has_expired_is_not_rotated() -> None:
    key = make_site().channel.api_keys.get(mode="live")
    ApiKey.objects.filter(id=key.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(KeyNotActive):
        api_keys.rotate_api_key(api_key=key, overlap=timedelta(0), actor=COMMAND_LINE)
    assert ApiKey.objects.count() == 2

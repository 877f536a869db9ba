"""What owners see of a model that retires, and the button that moves a channel back."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels import channel_changes, model_moves
from channels.models import AuditEntry, Channel, LanguageModel, Plan
from channels.tests.factories import Site
from tests.support.clients import (
    account_page,
    assert_same_404,
    member_client,
    owner_client,
    page_of,
    staff_guest,
    text_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

TODAY = date(2026, 4, 5)
OLD, NEW = "llama-3.3-70b-versatile", "gemma2-9b-it"
BEFORE = "Retires on 5 May 2026, then Gemma 2 9B"


def retire(ends_on: date, model_id: str = OLD) -> None:
    successor = LanguageModel.objects.get(model_id=NEW)
    LanguageModel.objects.filter(model_id=model_id).update(ends_on=ends_on, successor=successor)


def model_of(site: Site) -> str:
    return Channel.objects.select_related("model").get(id=site.channel.id).model.model_id


@pytest.fixture
def moved(site: Site) -> Site:
    """A channel that the gateway has moved today."""
    retire(TODAY)
    assert model_moves.move_from_retired_models(now=timezone.now()) == 1
    return site


@pytest.mark.parametrize("page", ["", "channels/new/"])
def test_pages_of_the_account_announce_an_end_thirty_days_before(site: Site, page: str) -> None:
    client = owner_client(site)
    retire(TODAY + timedelta(days=31))
    assert "Retires on" not in text_of(client.get(account_page(site, page)))
    retire(TODAY + timedelta(days=30))
    text = text_of(client.get(account_page(site, page)))
    assert BEFORE in text
    assert ("1 channel uses a model that retires soon" in text) is (page == "")


@pytest.mark.parametrize("page", ["", "keys/", "playground/"])
def test_every_page_of_the_channel_announces_it(site: Site, page: str) -> None:
    retire(TODAY + timedelta(days=30))
    assert BEFORE in text_of(owner_client(site).get(page_of(site, page)))


def test_a_retired_model_is_offered_to_none_but_the_channels_that_use_it(site: Site) -> None:
    client = owner_client(site)
    retire(TODAY, "mixtral-8x7b-32768")
    assert "mixtral" not in text_of(client.get(account_page(site, "channels/new/")))
    settings = client.get(page_of(site))
    assert "mixtral" not in text_of(settings)
    form = settings.context["form"]
    sent = {name: form[name].value() or "" for name in form.fields}
    refused = client.post(page_of(site, "save/"), sent | {"model": "mixtral-8x7b-32768"})
    assert refused.status_code == 422
    assert "Choose one of the models shown here." in text_of(refused)
    retire(TODAY)
    text = text_of(client.get(page_of(site)))
    assert "Retired on 5 Apr 2026" in text
    assert "No longer offered to this account" in text
    kept = client.post(page_of(site, "save/"), sent | {"name": "New name"})
    assert kept.status_code == 302, "the rest can be changed"


def test_the_picker_marks_what_the_first_provider_has_retired(site: Site) -> None:
    text = text_of(owner_client(site).get(account_page(site, "channels/new/")))
    assert text.count("Its first provider no longer offers it") == 4


def test_an_owner_moves_a_channel_back(moved: Site) -> None:
    client = owner_client(moved)
    text = text_of(client.get(page_of(moved)))
    assert "the gateway moved this channel to Gemma 2 9B" in text
    assert "Move back to Llama 3.3 70B" in text
    after = text_of(client.post(page_of(moved, "move-back/"), follow=True))
    assert "The channel uses Llama 3.3 70B again" in after
    assert "Move back" not in after
    assert model_of(moved) == OLD
    entry = AuditEntry.objects.get(action="channel.model_moved_back")
    assert entry.actor_name == "owner@example.com"
    again = text_of(client.post(page_of(moved, "move-back/"), follow=True))
    assert "Nothing was changed" in again
    assert "Channel model moved" in text_of(client.get(account_page(moved, "audit-log/")))


@pytest.mark.parametrize(
    ("role", "may"), [("owner", True), ("editor", True), ("viewer", False), ("staff", False)]
)
def test_who_may_move_a_channel_back(moved: Site, role: str, may: bool) -> None:
    client: Client = staff_guest(moved) if role == "staff" else member_client(moved, role)
    assert ("Move back to" in text_of(client.get(page_of(moved)))) is may
    assert client.post(page_of(moved, "move-back/")).status_code == (302 if may else 403)
    assert model_of(moved) == (OLD if may else NEW)
    assert client.get(page_of(moved, "move-back/")).status_code == 302


def test_a_strangers_channel_cannot_be_moved_back(moved: Site, stranger: Site) -> None:
    client = owner_client(stranger)
    unknown = "/channels/0190a000-0000-7000-8000-00000000dead/move-back/"
    mine, theirs = page_of(stranger, "move-back/"), page_of(moved, "move-back/")
    assert_same_404(client, mine, theirs, unknown, x="")
    assert model_of(moved) == NEW


def test_a_plan_that_no_longer_allows_the_old_model_is_named(moved: Site) -> None:
    plan = Plan.objects.create(name="Basic")
    plan.models_allowed.add(LanguageModel.objects.get(model_id=NEW))
    account = moved.channel.account
    account.plan = plan
    account.save()
    said = text_of(owner_client(moved).post(page_of(moved, "move-back/"), follow=True))
    assert "Nothing was changed. The plan Basic does not allow this model." in said
    assert model_of(moved) == NEW


def test_a_model_that_is_switched_off_offers_no_way_back(moved: Site) -> None:
    LanguageModel.objects.filter(model_id=OLD).update(is_enabled=False)
    assert "Move back" not in text_of(owner_client(moved).get(page_of(moved)))


def test_the_cards_of_many_channels_take_no_more_queries(site: Site) -> None:
    client = owner_client(site)
    for number in range(5):
        channel_changes.create_channel(account=site.channel.account, name=f"Shop {number}")
    page = account_page(site)
    client.get(page)
    with CaptureQueriesContext(connection) as before:
        client.get(page)
    retire(TODAY + timedelta(days=3))
    with CaptureQueriesContext(connection) as after:
        assert text_of(client.get(page)).count("Retires on 8 Apr 2026") == 6
    assert len(after) == len(before)


# --- Fallback models ------------------------------------------------------------------------------


@pytest.fixture
def falls_back(site: Site) -> Site:
    """A channel whose fallback model is OLD."""
    channel_changes.update_channel(
        channel_id=str(site.channel.id),
        model_id="mixtral-8x7b-32768",
        fallback_model=LanguageModel.objects.get(model_id=OLD),
    )
    return site


def test_card_and_prompt_page_announce_the_end_of_a_fallback_model(falls_back: Site) -> None:
    client = owner_client(falls_back)
    retire(TODAY + timedelta(days=30))
    card = text_of(client.get(account_page(falls_back)))
    assert f"Fallback model Llama 3.3 70B: {BEFORE}" in card
    assert "1 channel uses a model that retires soon" in card
    assert BEFORE in text_of(client.get(page_of(falls_back, "prompt/")))


def test_an_owner_takes_a_fallback_model_back(falls_back: Site) -> None:
    retire(TODAY)
    assert model_moves.move_from_retired_models(now=timezone.now()) == 1
    client = owner_client(falls_back)
    assert "Move back" not in text_of(client.get(page_of(falls_back)))
    text = text_of(client.get(page_of(falls_back, "prompt/")))
    assert "the gateway made Gemma 2 9B this channel's fallback model" in text
    url = page_of(falls_back, "move-back/")
    assert "Nothing was changed" in text_of(client.post(url, follow=True))
    after = text_of(client.post(url, {"is_fallback": "1"}, follow=True))
    assert "The channel uses Llama 3.3 70B again as its fallback model" in after
    channel = Channel.objects.get(id=falls_back.channel.id)
    assert str(channel.fallback_model) == "Llama 3.3 70B"
    entry = AuditEntry.objects.get(action="channel.model_moved_back")
    assert entry.changes["fallback_model"] == ["Gemma 2 9B", "Llama 3.3 70B"]

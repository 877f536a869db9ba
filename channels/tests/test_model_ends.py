"""A model that retires: which ends staff may set, and what pages and the API say."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from channels import catalogue, channel_changes, model_ends
from channels.errors import UnknownModel
from channels.models import AuditEntry, LanguageModel, Plan
from channels.tests.factories import Site
from tests.support.clients import ApiClient, owner_client, text_of

pytestmark = pytest.mark.django_db

TODAY = date(2026, 4, 5)  # the day of the fixture `clock`
OLD, NEW, THIRD = "llama-3.3-70b-versatile", "gemma2-9b-it", "mixtral-8x7b-32768"


def model(model_id: str) -> LanguageModel:
    return LanguageModel.objects.get(model_id=model_id)


def retire(model_id: str, ends_on: date, successor: str = "") -> None:
    LanguageModel.objects.filter(model_id=model_id).update(
        ends_on=ends_on, successor=model(successor) if successor else None
    )


def flaws(changed: LanguageModel, *names: str) -> dict[str, list[str]]:
    try:
        model_ends.refuse_wrong_end(changed, changed=names, today=TODAY)
    except ValidationError as error:
        return error.message_dict
    return {}


def edited(model_id: str = OLD, **values: Any) -> dict[str, list[str]]:
    """Return what is wrong with a model after staff changed these values."""
    changed = model(model_id)
    for name, value in values.items():
        setattr(changed, name, value)
    return flaws(changed, *values)


# --- Which ends are possible ----------------------------------------------------------------------


def test_a_day_and_a_successor_are_enough() -> None:
    assert edited(ends_on=TODAY, successor=model(NEW)) == {}
    assert edited(ends_on=TODAY + timedelta(days=90)) == {}
    assert edited(ends_on=None) == {}


def test_a_day_that_is_over_is_refused_unless_it_was_set_before() -> None:
    yesterday = TODAY - timedelta(days=1)
    assert "today or a later day" in edited(ends_on=yesterday)["ends_on"][0]
    retire(OLD, yesterday)
    assert edited(successor=model(NEW)) == {}
    assert edited(price_per_reply_microcredits=1) == {}


def test_a_successor_needs_a_day() -> None:
    assert "Choose the day" in edited(successor=model(NEW))["ends_on"][0]


def test_a_model_cannot_succeed_itself() -> None:
    assert "cannot succeed itself" in edited(ends_on=TODAY, successor=model(OLD))["successor"][0]


def test_a_successor_that_is_switched_off_is_refused() -> None:
    LanguageModel.objects.filter(model_id=NEW).update(is_enabled=False)
    assert "switched off" in edited(ends_on=TODAY, successor=model(NEW))["successor"][0]


@pytest.mark.parametrize(("days", "is_fine"), [(-1, False), (10, False), (11, True)])
def test_a_successor_that_retires_no_later_is_refused(days: int, is_fine: bool) -> None:
    retire(NEW, TODAY + timedelta(days=days))
    found = edited(ends_on=TODAY + timedelta(days=10), successor=model(NEW))
    assert (found == {}) is is_fine
    assert is_fine or "Choose one that stays" in found["successor"][0]


def test_a_chain_is_refused_from_both_sides() -> None:
    retire(NEW, TODAY + timedelta(days=20), THIRD)
    found = edited(ends_on=TODAY, successor=model(NEW))
    assert found["successor"] == [
        "Gemma 2 9B retires on 25 Apr 2026, then Mixtral 8x7B. Choose one that stays."
    ]
    found = edited(THIRD, ends_on=TODAY + timedelta(days=90), successor=model(OLD))
    assert "The channels of Gemma 2 9B move to this model" in found["successor"][0]


def test_a_circle_is_refused() -> None:
    retire(NEW, TODAY + timedelta(days=20), OLD)
    found = edited(ends_on=TODAY + timedelta(days=9), successor=model(NEW))
    assert "names this model as its own successor" in found["successor"][0]


def test_a_model_that_awaits_channels_neither_ends_before_nor_is_switched_off() -> None:
    retire(OLD, TODAY + timedelta(days=20), NEW)
    assert (
        "another successor first" in edited(NEW, ends_on=TODAY + timedelta(days=20))["ends_on"][0]
    )
    assert "another successor first" in edited(NEW, is_enabled=False)["is_enabled"][0]
    assert edited(NEW, ends_on=TODAY + timedelta(days=21)) == {}
    retire(OLD, TODAY, NEW)
    assert edited(NEW, is_enabled=False) == {}


def test_a_successor_that_a_plan_in_use_does_not_allow_is_refused(site: Site) -> None:
    plan = Plan.objects.create(name="Basic")
    plan.models_allowed.add(model(OLD))
    assert edited(ends_on=TODAY, successor=model(NEW)) == {}, "no account is on it"
    account = site.channel.account
    account.plan = plan
    account.save()
    found = edited(ends_on=TODAY, successor=model(NEW))
    assert found["successor"] == [
        "The plan Basic does not allow Gemma 2 9B, and channels under it use this model. Add "
        "Gemma 2 9B to the plan, or choose another model."
    ]
    plan.models_allowed.add(model(NEW))
    assert edited(ends_on=TODAY, successor=model(NEW)) == {}
    plan.models_allowed.clear()
    assert edited(ends_on=TODAY, successor=model(NEW)) == {}, "it names none, so it allows all"


def test_staff_set_an_end_and_read_beside_the_field_what_is_wrong(
    admin_client: Client, clock: Any
) -> None:
    old = model(OLD)
    page = reverse("admin:channels_languagemodel_change", args=[old.pk])
    form = {
        name: value
        for name, value in admin_client.get(page).context["adminform"].form.initial.items()
        if value is not None
    }
    form |= {"price_per_reply_microcredits": "1", "price_per_1k_input_tokens_microcredits": "0"}
    form |= {"price_per_1k_output_tokens_microcredits": "0"}
    form |= {"routes-TOTAL_FORMS": "0", "routes-INITIAL_FORMS": "0", "ends_on": "2026-04-04"}
    form.pop("is_retired_upstream", None)
    refused = admin_client.post(page, form)
    assert "This day is over. Choose today or a later day (UTC)." in text_of(refused)
    refused = admin_client.post(page, form | {"ends_on": "soon"})
    assert "Enter a day such as" in text_of(refused)
    sent = form | {"ends_on": "2026-05-01", "successor": model(NEW).pk}
    assert admin_client.post(page, sent).status_code == 302
    old.refresh_from_db()
    assert (old.ends_on, old.successor) == (date(2026, 5, 1), model(NEW))
    changes = AuditEntry.objects.get(action="languagemodel.updated").changes
    assert changes["ends_on"] == [None, "2026-05-01"]
    listed = text_of(admin_client.get(reverse("admin:channels_languagemodel_changelist")))
    assert "Retires on 1 May 2026, then Gemma 2 9B" in listed


# --- What pages and the API say -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (31, ""),
        (30, "Retires on 5 May 2026, then Gemma 2 9B"),
        (1, "Retires on 6 Apr 2026, then Gemma 2 9B"),
        (0, "Retired on 5 Apr 2026"),
        (-9, "Retired on 27 Mar 2026"),
    ],
)
def test_an_end_is_announced_thirty_days_before(days: int, words: str) -> None:
    retire(OLD, TODAY + timedelta(days=days), NEW)
    assert model_ends.words_of_end(model(OLD), today=TODAY) == words


@pytest.mark.parametrize("days", [31, 30])
def test_callers_read_of_an_end_thirty_days_before(site: Site, clock: Any, days: int) -> None:
    day = TODAY + timedelta(days=days)
    retire(OLD, day, NEW)
    end = {"ends_on": day.isoformat(), "successor": NEW} if days == 30 else {}
    told = {"ends_on": None, "successor": None} | end
    api = ApiClient(site.api_key)
    for listed in (api.get("/api/models").json()["models"], api.get("/v1/models").json()["data"]):
        found = {one["id"]: (one["ends_on"], one["successor"]) for one in listed}
        assert found[OLD] == tuple(told.values())
        assert found[NEW] == (None, None)
    one = api.get(f"/v1/models/{OLD}").json()
    assert (one["ends_on"], one["successor"]) == tuple(told.values())


def test_no_successor_is_promised_that_the_plan_does_not_allow(site: Site, clock: Any) -> None:
    retire(OLD, TODAY + timedelta(days=9), NEW)
    plan = Plan.objects.create(name="Basic")
    plan.models_allowed.add(model(OLD))
    account = site.channel.account
    account.plan = plan
    account.save()
    api = ApiClient(site.api_key)
    end = {"ends_on": "2026-04-14", "successor": None}
    assert end.items() <= api.get("/api/models").json()["models"][0].items()
    assert end.items() <= api.get(f"/v1/models/{OLD}").json().items()
    for page in (f"/channels/{site.channel.id}/", f"/a/{account.id}/"):
        text = text_of(owner_client(site).get(page))
        assert "Retires on 14 Apr 2026" in text
        assert "then Gemma" not in text


def test_a_retired_model_is_no_longer_offered_but_still_answers(site: Site, clock: Any) -> None:
    retire(NEW, TODAY)
    api = ApiClient(site.api_key)
    assert NEW not in {one["id"] for one in api.get("/api/models").json()["models"]}
    assert NEW in {one["id"] for one in api.get("/v1/models").json()["data"]}
    body = {"model": NEW, "messages": [{"role": "user", "content": "Hello"}]}
    assert api.post("/v1/chat/completions", body).status_code == 200
    with pytest.raises(UnknownModel):
        catalogue.get_model(NEW)
    with pytest.raises(UnknownModel):
        channel_changes.update_channel(channel_id=str(site.channel.id), model_id=NEW)
    with pytest.raises(ValidationError, match=r"retired on 5 Apr 2026\. Choose another model"):
        channel_changes.update_channel(channel_id=str(site.channel.id), model=model(NEW))
    assert catalogue.set_price(model_id=NEW, price_per_reply_microcredits=5).model_id == NEW


def test_a_channel_on_a_retired_model_keeps_it_and_can_change_the_rest(
    site: Site, clock: Any
) -> None:
    retire(OLD, TODAY)
    api = ApiClient(site.api_key)
    found = {one["id"]: one for one in api.get("/api/models").json()["models"]}
    assert found[OLD]["current"]
    assert found[OLD]["ends_on"] == TODAY.isoformat()
    channel_changes.update_channel(
        channel_id=str(site.channel.id), name="New name", model=model(OLD)
    )
    assert api.chat("Hello").status_code == 200
    assert catalogue.get_model("").model_id != OLD, "a new channel gets the next one"


def test_the_seeded_models_that_their_first_provider_retired_are_marked() -> None:
    marked = LanguageModel.objects.filter(is_retired_upstream=True)
    assert set(marked.values_list("model_id", flat=True)) == {
        "llama-3.1-70b-versatile",
        "llama-3.2-90b-vision-preview",
        "mixtral-8x7b-32768",
        "gemma2-9b-it",
    }
    assert not model(OLD).is_over(timezone.now().date())

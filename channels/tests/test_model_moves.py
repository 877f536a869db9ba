"""On a model's last day its channels move to the successor, once; owners can move them back."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError

from channels import channel_changes, model_mails, model_moves, tasks
from channels.audit import COMMAND_LINE
from channels.errors import ChannelChanged
from channels.models import (
    AuditEntry,
    Channel,
    LanguageModel,
    Membership,
    ModelMove,
    ModelNotice,
    Plan,
    User,
)
from channels.tests.factories import Site, make_site
from tests.support.clients import ApiClient
from tests.support.threads import run_in_threads

DAY = date(2026, 4, 5)
NOON = datetime(2026, 4, 5, 12, tzinfo=UTC)
OLD, NEW = "llama-3.3-70b-versatile", "gemma2-9b-it"


def model(model_id: str) -> LanguageModel:
    return LanguageModel.objects.get(model_id=model_id)


def retire(ends_on: date = DAY, successor: str = NEW) -> None:
    LanguageModel.objects.filter(model_id=OLD).update(
        ends_on=ends_on, successor=model(successor) if successor else None
    )


def model_of(site: Site) -> str:
    return channel_of(site).model.model_id


def channel_of(site: Site) -> Channel:
    return Channel.objects.select_related("model").get(id=site.channel.id)


def put_on_plan(site: Site, *model_ids: str) -> Plan:
    plan, _ = Plan.objects.get_or_create(name="Basic")
    plan.models_allowed.set(LanguageModel.objects.filter(model_id__in=model_ids))
    account = site.channel.account
    account.plan = plan
    account.save()
    return plan


def move(now: datetime = NOON) -> int:
    return model_moves.move_from_retired_models(now=now)


def move_all_back(seconds: float = 60) -> tuple[int, int]:
    deadline = time.monotonic() + seconds
    return model_moves.move_all_back(model=model(OLD), actor=COMMAND_LINE, deadline=deadline)


def only_move() -> ModelMove:
    return ModelMove.objects.select_related("left", "entered").get()


# --- Moving ---------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_channels_move_when_the_utc_day_begins_and_the_log_says_who_did_it(site: Site) -> None:
    retire()
    assert move(datetime(2026, 4, 4, 23, 59, 59, tzinfo=UTC)) == 0
    assert model_of(site) == OLD
    assert move(datetime(2026, 4, 5, tzinfo=UTC)) == 1
    assert model_of(site) == NEW
    entry = AuditEntry.objects.get(action="channel.model_moved")
    assert (entry.actor_name, entry.actor, entry.account_id) == ("gateway", None, site.account_id)
    assert entry.changes == {"model": ["Llama 3.3 70B", "Gemma 2 9B"]}
    assert ApiClient(site.api_key).chat("Hello").json()["model"] == NEW


@pytest.mark.django_db
def test_a_late_or_second_run_moves_what_is_left_and_nothing_twice(site: Site) -> None:
    retire()
    assert move(NOON + timedelta(days=40)) == 1
    assert move(NOON + timedelta(days=41)) == 0
    late = make_site(owner="late@example.com")
    Channel.objects.filter(id=late.channel.id).update(model=model(OLD))
    assert move(NOON + timedelta(days=42)) == 1
    assert AuditEntry.objects.filter(action="channel.model_moved").count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("flaw", ["none", "off", "over", "plan"])
def test_a_channel_stays_where_no_successor_can_take_it(site: Site, flaw: str) -> None:
    retire(successor="" if flaw == "none" else NEW)
    if flaw == "off":
        LanguageModel.objects.filter(model_id=NEW).update(is_enabled=False)
    if flaw == "over":
        LanguageModel.objects.filter(model_id=NEW).update(ends_on=DAY)
    if flaw == "plan":
        put_on_plan(site, OLD)
    assert move() == 0
    assert model_of(site) == OLD
    assert ApiClient(site.api_key).chat("Hello").status_code == 200
    LanguageModel.objects.filter(model_id=NEW).update(is_enabled=True, ends_on=None)
    put_on_plan(site, OLD, NEW)
    retire()
    assert move() == 1, "once it can"


@pytest.mark.django_db(transaction=True)
def test_two_tasks_at_once_move_each_channel_once() -> None:
    sites = [make_site(owner=f"owner{number}@example.com") for number in range(6)]
    retire()
    assert sum(run_in_threads(lambda _: move(), 3)) == len(sites)
    assert AuditEntry.objects.filter(action="channel.model_moved").count() == len(sites)
    assert ModelMove.objects.count() == len(sites)


# --- Fallback models ------------------------------------------------------------------------------

OWN = "mixtral-8x7b-32768"


@pytest.fixture
def falls_back(site: Site) -> Site:
    """A channel whose fallback model is OLD."""
    channel_changes.update_channel(
        channel_id=str(site.channel.id), model_id=OWN, fallback_model=model(OLD)
    )
    return site


def fallback_of(site: Site) -> str:
    fallback = channel_of(site).fallback_model
    return fallback.model_id if fallback else ""


@pytest.mark.django_db
def test_a_fallback_model_moves_on_the_day_as_a_new_version_of_the_prompt(falls_back: Site) -> None:
    retire()
    before = channel_of(falls_back).prompt_version
    assert move(NOON - timedelta(days=1)) == 0
    assert [move(), move()] == [1, 0]
    channel = channel_of(falls_back)
    assert (model_of(falls_back), fallback_of(falls_back)) == (OWN, NEW)
    assert channel.prompt_version == before + 1
    newest, earlier = channel.prompt_versions.all()[:2]
    assert (str(newest.fallback_model), str(earlier.fallback_model)) == (
        "Gemma 2 9B",
        "Llama 3.3 70B",
    )
    assert newest.note == "Fallback model: Gemma 2 9B instead of Llama 3.3 70B, which retired"
    entry = AuditEntry.objects.get(action="channel.model_moved")
    assert (entry.actor_name, entry.account_id) == ("gateway", falls_back.account_id)
    assert entry.changes == {
        "fallback_model": ["Llama 3.3 70B", "Gemma 2 9B"],
        "system_prompt": [f"version {before}", f"version {before + 1}"],
    }


@pytest.mark.django_db
def test_a_fallback_model_is_moved_back_once_and_stays(falls_back: Site) -> None:
    retire()
    move()
    assert model_moves.find_move(channel_of(falls_back), is_fallback=False) is None
    found = model_moves.find_move(channel_of(falls_back), is_fallback=True)
    assert found == only_move()
    assert model_moves.count_moves() == {model(OLD).pk: 1}
    model_moves.move_back(move=found, actor=COMMAND_LINE)
    assert fallback_of(falls_back) == OLD
    assert channel_of(falls_back).prompt_versions.all()[0].note == (
        "Fallback model: back to Llama 3.3 70B"
    )
    assert move() == 0
    assert model_moves.count_moves() == {}
    with pytest.raises(ChannelChanged):
        model_moves.move_back(move=only_move(), actor=COMMAND_LINE)


@pytest.mark.django_db
def test_all_fallback_models_go_back_with_the_channels(falls_back: Site, stranger: Site) -> None:
    retire()
    assert move() == 2
    assert move_all_back() == (2, 0)
    assert (fallback_of(falls_back), model_of(stranger)) == (OLD, OLD)


@pytest.mark.django_db
@pytest.mark.parametrize("flaw", ["none", "plan", "own"])
def test_a_fallback_model_stays_where_no_successor_can_take_it(falls_back: Site, flaw: str) -> None:
    retire(successor="" if flaw == "none" else NEW)
    if flaw == "plan":
        put_on_plan(falls_back, OLD, OWN)
    if flaw == "own":
        channel_changes.update_channel(channel_id=str(falls_back.channel.id), model_id=NEW)
    assert move() == 0
    assert fallback_of(falls_back) == OLD


@pytest.mark.django_db
def test_a_plan_at_its_limit_of_versions_keeps_no_fallback_model(falls_back: Site) -> None:
    plan = put_on_plan(falls_back)
    plan.max_prompt_versions = 1
    plan.save()
    retire()
    assert move() == 1


@pytest.mark.django_db
def test_owners_of_fallback_models_are_told_before_and_after(falls_back: Site) -> None:
    retire()
    soon = ("Llama 3.3 70B retires soon: owner@example.com", ["owner@example.com"])
    assert [run(-30), run(-30), run(-7)] == [[soon], [], [soon]]
    body = mail.outbox[0].body
    assert "- Shop (as its fallback model)\n" in body
    assert "A fallback model is chosen on the channel's prompt page" in body
    assert run(0) == [("Llama 3.3 70B has retired: owner@example.com", ["owner@example.com"])]
    body = mail.outbox[0].body
    assert "moved these channels to its successor" in body
    assert "- Shop (as its fallback model)\n" in body
    assert run(1) == []


@pytest.mark.django_db
def test_operators_are_told_of_fallback_models_that_stay(falls_back: Site) -> None:
    User.objects.create_superuser("boss@example.com")
    retire(successor="")
    assert [to for _, to in run(0)] == [["owner@example.com"], ["boss@example.com"]]
    assert "is still in use (channels: 1, accounts: 1)" in mail.outbox[1].body


# --- Moving back ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_channel_that_was_moved_back_stays(site: Site) -> None:
    retire()
    move()
    found = model_moves.find_move(channel_of(site), is_fallback=False)
    assert found == only_move()
    model_moves.move_back(move=only_move(), actor=COMMAND_LINE)
    assert model_of(site) == OLD
    assert move() == 0
    entry = AuditEntry.objects.get(action="channel.model_moved_back")
    assert entry.changes == {"model": ["Gemma 2 9B", "Llama 3.3 70B"]}
    with pytest.raises(ChannelChanged):
        model_moves.move_back(move=only_move(), actor=COMMAND_LINE)
    retire(DAY + timedelta(days=1))
    assert move(NOON + timedelta(days=1)) == 1, "a new day is a new end"


@pytest.mark.django_db
def test_a_channel_is_not_moved_back_from_elsewhere_or_to_what_it_may_not_use(site: Site) -> None:
    retire()
    move()
    put_on_plan(site, NEW)
    with pytest.raises(ValidationError, match="plan Basic does not allow this model"):
        model_moves.move_back(move=only_move(), actor=COMMAND_LINE)
    put_on_plan(site)
    LanguageModel.objects.filter(model_id=OLD).update(is_enabled=False)
    assert model_moves.find_move(channel_of(site), is_fallback=False) is None
    with pytest.raises(ChannelChanged):
        model_moves.move_back(move=only_move(), actor=COMMAND_LINE)
    LanguageModel.objects.filter(model_id=OLD).update(is_enabled=True)
    channel_changes.update_channel(channel_id=str(site.channel.id), model_id="mixtral-8x7b-32768")
    assert model_moves.find_move(channel_of(site), is_fallback=False) is None
    with pytest.raises(ChannelChanged):
        model_moves.move_back(move=only_move(), actor=COMMAND_LINE)
    assert model_of(site) == "mixtral-8x7b-32768"


@pytest.mark.django_db
def test_all_channels_of_a_model_go_back_but_those_that_may_not(site: Site, stranger: Site) -> None:
    third = make_site(owner="third@example.com")
    retire()
    assert move() == 3
    put_on_plan(stranger, NEW)
    channel_changes.update_channel(channel_id=str(third.channel.id), model_id="mixtral-8x7b-32768")
    assert move_all_back(seconds=0) == (0, 0)
    assert move_all_back() == (1, 1)
    assert [model_of(one) for one in (site, stranger)] == [OLD, NEW]
    assert move_all_back() == (0, 1)


def press_move_back(move: ModelMove, _: int) -> bool:
    try:
        model_moves.move_back(move=move, actor=COMMAND_LINE)
    except ChannelChanged:
        return False
    return True


@pytest.mark.django_db(transaction=True)
def test_of_two_who_move_a_channel_back_at_once_one_does() -> None:
    site = make_site()
    retire()
    move()
    assert sorted(run_in_threads(partial(press_move_back, only_move()), 3)) == [False, False, True]
    assert model_of(site) == OLD
    assert AuditEntry.objects.filter(action="channel.model_moved_back").count() == 1


# --- Mails ----------------------------------------------------------------------------------------


@pytest.fixture
def people(site: Site) -> Site:
    """The owner, an editor and a viewer, and an operator."""
    for role in (Membership.Role.EDITOR, Membership.Role.VIEWER):
        user = User.objects.create_user(f"{role}@example.com")
        Membership.objects.create(account_id=site.account_id, user=user, role=role)
    User.objects.create_superuser("boss@example.com")
    return site


def run(days: int) -> list[tuple[str, list[str]]]:
    """Run the task so many days after the model's last, and return the mails it sent."""
    mail.outbox.clear()
    now = NOON + timedelta(days=days)
    move(now)
    model_mails.send_model_mails(now=now)
    return [(str(sent.subject), sent.to) for sent in mail.outbox]


@pytest.mark.django_db
def test_owners_and_editors_are_told_thirty_and_seven_days_before_once_each(people: Site) -> None:
    retire()
    soon = "Llama 3.3 70B retires soon: owner@example.com"
    both = ["owner@example.com", "editor@example.com"]
    assert run(-31) == []
    assert run(-30) == [(soon, both)]
    assert "“Llama 3.3 70B” retires on 5 Apr 2026 (UTC)" in mail.outbox[0].body
    assert "- Shop\n" in mail.outbox[0].body
    assert "On that day the gateway moves them to “Gemma 2 9B”" in mail.outbox[0].body
    assert run(-30) == run(-29) == run(-8) == []
    assert run(-7) == [(soon, both)]
    assert run(-7) == run(-1) == []
    assert run(0) == [("Llama 3.3 70B has retired: owner@example.com", both)]
    assert "moved these channels" in mail.outbox[0].body
    assert "stay on it" not in mail.outbox[0].body
    assert run(0) == run(1) == []


@pytest.mark.django_db
def test_a_day_that_is_set_late_or_again_is_told_of_once(people: Site) -> None:
    retire()
    assert len(run(-3)) == 1
    assert run(-2) == []
    retire(DAY + timedelta(days=60))
    assert len(run(30)) == 1


@pytest.mark.django_db
def test_owners_and_operators_are_told_of_channels_that_stay(people: Site) -> None:
    put_on_plan(people, OLD)
    retire()
    assert len(run(-30)) == 1
    assert (
        "because its successor “Gemma 2 9B” is not available to your account" in mail.outbox[0].body
    )
    told = run(0)
    assert [to for _, to in told] == [
        ["owner@example.com", "editor@example.com"],
        ["boss@example.com"],
    ]
    assert (
        "these channels stay on it, because its successor “Gemma 2 9B” is not"
        in mail.outbox[0].body
    )
    assert "is still in use (channels: 1, accounts: 1)" in mail.outbox[1].body
    assert run(0) == []


@pytest.mark.django_db
def test_a_lost_mail_server_delays_the_mail(people: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    retire(successor="")

    def refuse(*args: Any) -> None:
        raise ConnectionRefusedError

    for days in (-30, 0):
        with monkeypatch.context() as patched:
            patched.setattr(model_mails, "send_mail", refuse)
            patched.setattr("channels.alerts.send_mail", refuse)
            assert run(days) == []
        assert run(days) != []


def send_mails(now: datetime, _: int) -> int:
    return model_mails.send_model_mails(now=now)


@pytest.mark.django_db(transaction=True)
def test_two_tasks_at_once_send_each_mail_once() -> None:
    for number in range(4):
        make_site(owner=f"owner{number}@example.com")
    retire(successor="")
    for days, count in ((-30, 4), (-7, 4), (0, 5)):
        now = NOON + timedelta(days=days)
        sent = run_in_threads(partial(send_mails, now), 3)
        assert sum(sent) == count, days
    assert ModelNotice.objects.count() == 13


@pytest.mark.django_db
def test_the_task_moves_and_then_tells(people: Site, clock: Any) -> None:
    retire()
    assert tasks.retire_models() == 1
    assert len(mail.outbox) == 1
    assert tasks.retire_models() == 0

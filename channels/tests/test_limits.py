"""Bounds of an account: exact even under concurrency, and their error says what helps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from channels import api_keys, channel_changes, fixed_answers, limits, team
from channels.audit import COMMAND_LINE
from channels.errors import PlanLimitReached, TeamFull, UnknownChannel
from channels.models import (
    ANSWER_SETTINGS,
    Account,
    ApiKey,
    Channel,
    FixedAnswer,
    Invitation,
    Membership,
    Plan,
    PromptVersion,
    User,
)
from channels.tests.factories import Site, make_site
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

Add = Callable[[Site, int], Any]


def add_channel(site: Site, number: int) -> None:
    channel_changes.create_channel(account=site.channel.account, name=f"Channel {number}")


def add_key(site: Site, number: int) -> None:
    api_keys.issue_api_key(channel=site.channel, is_test=False)


def add_prompt(site: Site, number: int) -> None:
    channel_changes.update_channel(
        channel_id=str(site.channel.id), system_prompt=f"Prompt {number}"
    )


def add_reply(site: Site, number: int) -> None:
    fixed_answers.add_fixed_answer(
        channel=site.channel, question=f"Question {number}?", answer="Yes", actor=COMMAND_LINE
    )


def add_member(site: Site, number: int) -> None:
    team.invite(
        account=site.channel.account,
        email=f"guest{number}@example.com",
        role=Membership.Role.VIEWER,
        actor=COMMAND_LINE,
    )


# For each bound, the function that adds one, and how many a new site has.
ADDERS: dict[limits.Bound, tuple[Add, int]] = {
    limits.CHANNELS: (add_channel, 1),
    limits.KEYS: (add_key, 2),
    limits.PROMPT_VERSIONS: (add_prompt, 1),
    limits.SAVED_REPLIES: (add_reply, 0),
    limits.SEATS: (add_member, 1),
}
by_bound = pytest.mark.parametrize("bound", ADDERS, ids=lambda bound: bound.field)


def allow(site: Site, bound: limits.Bound, most: int | None) -> None:
    plan, _ = Plan.objects.update_or_create(name="Bound", defaults={bound.field: most})
    Account.objects.filter(id=site.account_id).update(plan=plan)


def test_every_bound_of_a_plan_is_tried_here() -> None:
    fields = {field.name for field in Plan._meta.fields if field.name.startswith("max_")}
    assert {bound.field for bound in ADDERS} == fields == {one.field for one in limits.BOUNDS}


@by_bound
def test_one_more_than_the_plan_allows_is_refused(site: Site, bound: limits.Bound) -> None:
    add, there = ADDERS[bound]
    allow(site, bound, there + 2)
    add(site, 1)
    add(site, 2)
    with pytest.raises((PlanLimitReached, TeamFull), match="larger plan"):
        add(site, 3)
    assert bound.count(site.account_id) == there + 2
    allow(site, bound, there + 3)
    add(site, 3)


@by_bound
def test_without_a_word_of_the_plan_the_usual_bound_holds(
    site: Site, bound: limits.Bound, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account.objects.select_related("plan").get(id=site.account_id)
    assert bound.most(account) == bound.usual
    allow(site, bound, None)
    account = Account.objects.select_related("plan").get(id=site.account_id)
    assert bound.most(account) == bound.usual


@by_bound
def test_another_accounts_are_not_counted(site: Site, stranger: Site, bound: limits.Bound) -> None:
    add, there = ADDERS[bound]
    for number in range(3):
        add(stranger, number + 10)
    allow(site, bound, there + 1)
    add(site, 1)


@pytest.mark.django_db(transaction=True)
@by_bound
def test_many_who_add_at_once_stay_within_the_plan(bound: limits.Bound) -> None:
    site = make_site()
    add, there = ADDERS[bound]
    allow(site, bound, there + 3)

    def try_one(number: int) -> bool:
        try:
            add(site, number)
        except (PlanLimitReached, TeamFull):
            return False
        return True

    outcomes = run_in_threads(try_one, 8)
    assert sum(outcomes) == 3
    assert bound.count(site.account_id) == there + 3


def test_a_channel_needs_room_for_its_keys_too_and_leaves_nothing(site: Site) -> None:
    allow(site, limits.KEYS, 3)
    with pytest.raises(PlanLimitReached):
        channel_changes.create_channel_with_keys(account=site.channel.account, name="Second")
    assert Channel.objects.count() == 1
    assert ApiKey.objects.count() == 2
    assert PromptVersion.objects.count() == 1


def test_keys_made_and_revoked_in_a_loop_count_for_a_day(site: Site) -> None:
    allow(site, limits.KEYS, 4)
    for _ in range(2):
        issued = api_keys.issue_api_key(channel=site.channel, is_test=False)
        api_keys.revoke_api_key(api_key=issued.record)
    with pytest.raises(PlanLimitReached):
        api_keys.issue_api_key(channel=site.channel, is_test=False)
    with pytest.raises(PlanLimitReached):
        api_keys.rotate_api_key(
            api_key=ApiKey.objects.filter(revoked_at=None)[0],
            overlap=timedelta(0),
            actor=COMMAND_LINE,
        )
    ApiKey.objects.exclude(revoked_at=None).update(created_at=timezone.now() - timedelta(days=2))
    api_keys.issue_api_key(channel=site.channel, is_test=False)


def test_an_invitation_that_ran_out_or_was_withdrawn_frees_its_seat(site: Site) -> None:
    allow(site, limits.SEATS, 2)
    add_member(site, 1)
    invitation = Invitation.objects.get()
    team.withdraw_invitation(invitation=invitation, actor=COMMAND_LINE)
    add_member(site, 2)
    Invitation.objects.update(expires_at=timezone.now())
    late = Invitation.objects.get(closed_at=None)
    add_member(site, 3)
    with pytest.raises(TeamFull):
        team.renew_invitation(invitation=late, actor=COMMAND_LINE)


def test_who_was_invited_in_time_gets_the_seat_that_was_kept(site: Site) -> None:
    allow(site, limits.SEATS, 2)
    sent = team.invite(
        account=site.channel.account,
        email="guest@example.com",
        role=Membership.Role.VIEWER,
        actor=COMMAND_LINE,
    )
    guest = User.objects.create_user("guest@example.com")
    digests = team.digests_of(sent.secret)
    team.accept_invitation(secret_digests=digests, user=guest, actor=COMMAND_LINE)
    assert limits.SEATS.count(site.account_id) == 2


def test_a_bound_below_what_is_there_takes_nothing_away(site: Site) -> None:
    add_reply(site, 1)
    allow(site, limits.SAVED_REPLIES, 1)
    Plan.objects.update(max_channels=1, max_keys=1)
    channel_changes.update_channel(
        channel_id=str(site.channel.id), is_enabled=False, name="Renamed"
    )
    assert Channel.objects.get().name == "Renamed"
    assert FixedAnswer.objects.count() == 1


def test_nothing_is_added_to_a_channel_that_has_just_left_the_account(
    site: Site, stranger: Site
) -> None:
    """Code that read the channel before its move cannot create a key for it afterwards."""
    channel_changes.update_channel(
        channel_id=str(site.channel.id), account=stranger.channel.account, actor=COMMAND_LINE
    )
    for add in (add_key, add_reply):
        with pytest.raises(UnknownChannel):
            add(site, 1)
    with pytest.raises(UnknownChannel):
        api_keys.rotate_api_key(
            api_key=ApiKey(channel=site.channel), overlap=timedelta(0), actor=COMMAND_LINE
        )


@pytest.mark.parametrize("page", ["new", "key", "prompt", "answer", "team"])
def test_the_console_says_what_is_full_and_what_helps(site: Site, page: str) -> None:
    bounds = {
        "new": limits.CHANNELS,
        "key": limits.KEYS,
        "prompt": limits.PROMPT_VERSIONS,
        "answer": limits.SAVED_REPLIES,
        "team": limits.SEATS,
    }
    bound = bounds[page]
    add_reply(site, 1)
    allow(site, bound, 1)
    client = Client()
    client.force_login(User.objects.get(email="owner@example.com"))
    base = f"/channels/{site.channel.id}"
    unknown = "0190a000-0000-7000-8000-000000000000"
    fields = ["system_prompt", *ANSWER_SETTINGS]
    digest = channel_changes.digest_fields(site.channel, fields)
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        "new": (
            "/channels/new/",
            {"id": unknown, "name": "Second", "model": site.channel.model.model_id},
        ),
        "key": (f"{base}/keys/new/", {"mode": "live", "key_id": unknown}),
        "prompt": (f"{base}/prompt/save/", {"digest": digest, "system_prompt": "New"}),
        "answer": (f"{base}/own-answers/add/", {"question": "What?", "answer": "That."}),
        "team": ("/team/invite/", {"email": "guest@example.com", "role": "viewer"}),
    }
    address, form = requests[page]
    before = bound.count(site.account_id)
    text = " ".join(client.post(address, form, follow=True).content.decode().split())
    assert str(bound.words) % {"most": "1"} in text
    assert "ask the operator of this gateway for a larger plan" in text
    assert bound.count(site.account_id) == before

"""The team of an account: an invitation works once for one person, and an owner always stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine

from channels import accounts, team
from channels.audit import Actor
from channels.errors import (
    AlreadyInvited,
    AlreadyMember,
    InvitationForAnother,
    InvitationGone,
    LastOwner,
    TooManyInvitations,
)
from channels.models import Account, AuditEntry, Invitation, Membership, User
from channels.team import Role
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    return accounts.ensure_account(owner_email="owner@example.com")


@pytest.fixture
def owner(account: Account) -> Actor:
    user = User.objects.get(email="owner@example.com")
    return Actor(user.email, user)


def person(email: str = "guest@example.com") -> User:
    return User.objects.create_user(email)


def accept(secret: str, user: User) -> Membership:
    return team.accept_invitation(
        secret_digests=team.digests_of(secret), user=user, actor=Actor(user.email, user)
    )


def invite(account: Account, owner: Actor, email: str = "guest@example.com") -> str:
    return team.invite(account=account, email=email, role=Role.EDITOR, actor=owner).secret


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def member(account: Account, email: str, role: Role) -> Membership:
    return Membership.objects.create(account=account, user=person(email), role=role)


def test_an_invitation_makes_a_member(account: Account, owner: Actor) -> None:
    secret = invite(account, owner, "Guest@Example.com")
    membership = accept(secret, person())
    assert (membership.account, membership.role) == (account, "editor")
    assert actions() == ["account.created", "member.invited", "member.joined"]


def test_the_secret_is_stored_nowhere(account: Account, owner: Actor) -> None:
    secret = invite(account, owner)
    stored = str(list(Invitation.objects.values())) + str(list(AuditEntry.objects.values()))
    assert secret not in stored


def test_accepting_twice_is_as_good_as_once(account: Account, owner: Actor) -> None:
    secret, user = invite(account, owner), person()
    assert accept(secret, user) == accept(secret, user)
    assert actions().count("member.joined") == 1


@pytest.mark.django_db(transaction=True)
def test_many_clicks_at_once_make_one_member(account: Account, owner: Actor) -> None:
    secret, user = invite(account, owner), person()
    found = run_in_threads(lambda _: accept(secret, user).id, 4)
    assert len(set(found)) == 1
    assert actions().count("member.joined") == 1


def test_who_was_removed_does_not_come_back_by_the_old_link(account: Account, owner: Actor) -> None:
    secret, user = invite(account, owner), person()
    team.remove_member(membership=accept(secret, user), actor=owner)
    with pytest.raises(InvitationGone):
        accept(secret, user)


def test_a_link_is_for_one_address(account: Account, owner: Actor) -> None:
    secret = invite(account, owner)
    with pytest.raises(InvitationForAnother, match=r"for guest@example\.com"):
        accept(secret, person("other@example.com"))
    assert account.memberships.count() == 1


def test_an_unknown_link_opens_nothing(account: Account) -> None:
    with pytest.raises(InvitationGone):
        accept("unknown", person())


def test_a_link_ends_after_a_week(
    account: Account, owner: Actor, clock: time_machine.Traveller
) -> None:
    secret, user = invite(account, owner), person()
    clock.shift(timedelta(days=7))
    assert team.find_invitation(team.digests_of(secret)) is None
    with pytest.raises(InvitationGone):
        accept(secret, user)
    assert accept(invite(account, owner), user).role == "editor"


def test_a_withdrawn_link_opens_nothing(account: Account, owner: Actor) -> None:
    secret = invite(account, owner)
    for _ in range(2):
        team.withdraw_invitation(invitation=Invitation.objects.get(), actor=owner)
    assert actions().count("member.invitation_withdrawn") == 1
    with pytest.raises(InvitationGone):
        accept(secret, person())


def test_a_new_link_ends_the_earlier_one(
    account: Account, owner: Actor, clock: time_machine.Traveller
) -> None:
    old = invite(account, owner)
    with pytest.raises(TooManyInvitations):
        team.renew_invitation(invitation=Invitation.objects.get(), actor=owner)
    clock.shift(timedelta(minutes=2))
    new = team.renew_invitation(invitation=Invitation.objects.get(), actor=owner).secret
    user = person()
    with pytest.raises(InvitationGone):
        accept(old, user)
    assert accept(new, user).role == "editor"
    with pytest.raises(InvitationGone):
        team.renew_invitation(invitation=Invitation.objects.get(), actor=owner)


def test_an_invitation_of_a_clock_that_ran_ahead_can_be_sent_again(
    account: Account, owner: Actor, clock: time_machine.Traveller
) -> None:
    clock.shift(timedelta(hours=3))
    invite(account, owner)
    clock.shift(timedelta(hours=-3))
    new = team.renew_invitation(invitation=Invitation.objects.get(), actor=owner).secret
    assert accept(new, person()).role == "editor"


def test_nobody_is_invited_twice(account: Account, owner: Actor) -> None:
    secret = invite(account, owner)
    with pytest.raises(AlreadyInvited):
        invite(account, owner, "GUEST@example.com")
    accept(secret, person())
    with pytest.raises(AlreadyMember):
        invite(account, owner)


@pytest.mark.django_db(transaction=True)
def test_one_of_two_simultaneous_invitations_is_made(account: Account, owner: Actor) -> None:
    def work(_: int) -> bool:
        try:
            invite(account, owner)
        except AlreadyInvited:
            return False
        return True

    assert sorted(run_in_threads(work, 3)) == [False, False, True]


def test_an_account_sends_only_so_many_invitations_a_day(
    account: Account, owner: Actor, clock: time_machine.Traveller
) -> None:
    for number in range(team.INVITATIONS_PER_DAY):
        invite(account, owner, f"{number}@example.com")
    with pytest.raises(TooManyInvitations):
        invite(account, owner, "more@example.com")
    clock.shift(timedelta(days=1, seconds=1))
    assert invite(account, owner, "more@example.com")


def test_a_member_keeps_their_role_when_invited_as_something_else(
    account: Account, owner: Actor
) -> None:
    secret = invite(account, owner)
    kept = member(account, "guest@example.com", Role.OWNER)
    assert accept(secret, kept.user).role == "owner"


def test_roles_change_and_members_go(account: Account, owner: Actor) -> None:
    guest = member(account, "guest@example.com", Role.VIEWER)
    for _ in range(2):
        team.change_role(membership=guest, role=Role.EDITOR, actor=owner)
    entry = AuditEntry.objects.get(action="member.role_changed")
    assert entry.changes == {"role": ["viewer", "editor"]}
    team.remove_member(membership=guest, actor=owner)
    team.remove_member(membership=guest, actor=owner)
    assert actions().count("member.removed") == 1
    assert account.memberships.count() == 1


def test_the_last_owner_stays(account: Account, owner: Actor) -> None:
    own = account.memberships.get()
    member(account, "guest@example.com", Role.EDITOR)
    with pytest.raises(LastOwner):
        team.remove_member(membership=own, actor=owner)
    with pytest.raises(LastOwner):
        team.change_role(membership=own, role=Role.VIEWER, actor=owner)
    member(account, "second@example.com", Role.OWNER)
    team.remove_member(membership=own, actor=owner)
    assert "member.left" in actions()


@pytest.mark.django_db(transaction=True)
def test_of_owners_who_leave_at_once_one_stays(account: Account) -> None:
    for number in range(3):
        member(account, f"{number}@example.com", Role.OWNER)
    rows = list(account.memberships.select_related("user", "account"))

    def leave(index: int) -> bool:
        row = rows[index]
        try:
            team.remove_member(membership=row, actor=Actor(row.user.email, row.user))
        except LastOwner:
            return False
        return True

    assert sorted(run_in_threads(leave, 4)) == [False, True, True, True]
    assert account.memberships.get().role == "owner"


@pytest.mark.django_db(transaction=True)
def test_of_owners_who_demote_each_other_at_once_one_stays(account: Account) -> None:
    member(account, "second@example.com", Role.OWNER)
    rows = list(account.memberships.select_related("user", "account"))

    def demote(index: int) -> bool:
        actor = Actor(rows[1 - index].user.email, rows[1 - index].user)
        try:
            team.change_role(membership=rows[index], role=Role.VIEWER, actor=actor)
        except LastOwner:
            return False
        return True

    assert sorted(run_in_threads(demote, 2)) == [False, True]
    assert account.memberships.filter(role="owner").count() == 1


def test_an_account_can_be_renamed(account: Account, owner: Actor) -> None:
    for _ in range(2):
        team.rename_account(account=account, name="Acme", actor=owner)
    account.refresh_from_db()
    assert account.name == "Acme"
    assert AuditEntry.objects.get(action="account.renamed").changes == {
        "name": ["owner@example.com", "Acme"]
    }

"""The team of an account: invitations, roles, leaving, and whether a second factor is required.

Every change locks the account's row first, so that two owners who leave at once cannot both leave.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import audit, daily_counts, limits, person_mails
from channels.audit import Actor
from channels.errors import (
    AlreadyInvited,
    AlreadyMember,
    InvitationForAnother,
    InvitationGone,
    LastOwner,
    PlanLimitReached,
    TeamFull,
    TooManyInvitations,
)
from channels.models import Account, Invitation, Membership, User
from channels.sealing import INVITATIONS
from common.clock import HONEST_SKEW

LIFETIME = timedelta(days=7)
# Nobody may use an account to send e-mails to strangers, or several accounts to mail one of them.
# Repeated e-mails count as well.
INVITATIONS_PER_DAY = 20
INVITATIONS_PER_DAY_TO_ONE = 5
PAUSE_BETWEEN_MAILS = timedelta(minutes=1)

Role = Membership.Role


@dataclass(frozen=True, slots=True)
class SentInvitation:
    """An invitation's row, together with the secret of its link."""

    record: Invitation
    secret: str


# --- Reads ------------------------------------------------------------------------------------


def list_members(account: Account) -> list[Membership]:
    """Return the members of the account, the oldest membership first."""
    return list(account.memberships.select_related("user").order_by("created_at", "id"))


def list_invitations(account: Account) -> list[Invitation]:
    """Return the invitations that nobody has accepted or withdrawn, including expired ones."""
    open_ones = account.invitations.filter(closed_at=None)
    return list(open_ones.select_related("invited_by").order_by("-created_at"))


def digests_of(secret: str) -> list[str]:
    """Return the digests that find an invitation by its secret. They open nothing by themselves."""
    return INVITATIONS.digests_of(secret)


def is_invitation(secret_digests: list[str]) -> bool:
    """Return whether there is or was such an invitation."""
    return Invitation.objects.filter(secret_digest__in=secret_digests).exists()


def find_invitation(secret_digests: list[str]) -> Invitation | None:
    """Return the invitation that can still be accepted, or None."""
    found = Invitation.objects.filter(
        secret_digest__in=secret_digests, closed_at=None, expires_at__gt=timezone.now()
    )
    return found.select_related("account", "invited_by").first()


def list_invitations_to(user: User) -> list[Invitation]:
    """Return the invitations that this person can accept, by their e-mail address.

    The address is theirs, because nobody can log in with an unverified address.
    """
    waiting = Invitation.objects.filter(
        email__iexact=user.email, closed_at=None, expires_at__gt=timezone.now()
    ).exclude(account__memberships__user=user)
    return list(waiting.select_related("account", "invited_by").order_by("id"))


# --- Invitations ------------------------------------------------------------------------------


@transaction.atomic
def invite(*, account: Account, email: str, role: Role, actor: Actor) -> SentInvitation:
    """Invite somebody to the account. Each address can have one open invitation.

    Raises AlreadyMember, AlreadyInvited, TooManyInvitations and TeamFull.
    """
    locked = limits.lock_account(account.id)
    now = timezone.now()
    if account.memberships.filter(user__email__iexact=email).exists():
        raise AlreadyMember(_("%(email)s is already in this account.") % {"email": email})
    earlier = account.invitations.filter(email__iexact=email, closed_at=None)
    if earlier.filter(expires_at__gt=now).exists():
        text = _("%(email)s has already been invited. You can send the e-mail again.")
        raise AlreadyInvited(text % {"email": email})
    _keep_within_plan(locked)
    _count_mail(account, email)
    earlier.update(closed_at=now)
    secret = _new_secret()
    invitation = Invitation.objects.create(
        account=account,
        email=email,
        role=role,
        secret_digest=digests_of(secret)[0],
        invited_by=actor.user,
        expires_at=now + LIFETIME,
    )
    # After the insert, because the ciphertext is bound to the row's id.
    invitation.save(update_fields=INVITATIONS.seal(invitation, secret))
    _record("member.invited", invitation, actor, role=(None, role))
    return SentInvitation(invitation, secret)


@transaction.atomic
def renew_invitation(*, invitation: Invitation, actor: Actor) -> SentInvitation:
    """Give an open invitation a new secret and 7 days from now. The earlier link stops working.

    Raises InvitationGone, TooManyInvitations within a minute of the last e-mail or beyond the daily
    limits, and TeamFull if the invitation had expired and others have taken its place.
    """
    locked = limits.lock_account(invitation.account_id)
    now = timezone.now()
    current = _open(invitation).first()
    if current is None:
        raise InvitationGone(_("This invitation has been accepted or withdrawn."))
    # A clock that ran ahead sent an invitation whose time is in the future, so that needs no pause.
    if -HONEST_SKEW <= now - (current.expires_at - LIFETIME) < PAUSE_BETWEEN_MAILS:
        raise TooManyInvitations(_("The invitation was just sent. Wait a minute, then try again."))
    if current.expires_at <= now:
        _keep_within_plan(locked)
    _count_mail(invitation.account, current.email)
    secret = _new_secret()
    current.expires_at = now + LIFETIME
    current.save(update_fields=[*INVITATIONS.seal(current, secret), "expires_at"])
    _record("member.invited_again", current, actor)
    return SentInvitation(current, secret)


@transaction.atomic
def withdraw_invitation(*, invitation: Invitation, actor: Actor) -> None:
    """Withdraw an open invitation, so that its link stops working. Idempotent."""
    if _open(invitation).update(closed_at=timezone.now()):
        _record("member.invitation_withdrawn", invitation, actor)


@transaction.atomic
def decline_invitation(*, invitation: Invitation, actor: Actor) -> None:
    """Decline an open invitation, as the invited person. Idempotent."""
    if _open(invitation).update(closed_at=timezone.now()):
        _record("member.invitation_declined", invitation, actor)


def _count_mail(account: Account, email: str) -> None:
    """Count an e-mail for this UTC day. Raises TooManyInvitations, which also undoes the counts."""
    if not daily_counts.count("invitations of account", str(account.id), most=INVITATIONS_PER_DAY):
        text = _("An account can send %(count)s invitations a day. Try again tomorrow.")
        raise TooManyInvitations(text % {"count": INVITATIONS_PER_DAY})
    mailbox = daily_counts.mailbox_of(email)
    if not daily_counts.count("invitations to", mailbox, most=INVITATIONS_PER_DAY_TO_ONE):
        text = _(
            "%(email)s was sent %(count)s invitations today, the most there can be. Try again "
            "tomorrow."
        )
        raise TooManyInvitations(text % {"email": email, "count": INVITATIONS_PER_DAY_TO_ONE})


@transaction.atomic
def accept_invitation(*, secret_digests: list[str], user: User, actor: Actor) -> Membership:
    """Make the invited person a member. Idempotent: accepting again returns the same membership.

    Somebody who is a member already keeps their role. Raises InvitationGone and
    InvitationForAnother.
    """
    invitations = Invitation.objects.filter(secret_digest__in=secret_digests)
    found = invitations.select_related("account").first()
    if found is None:
        raise InvitationGone(_("This invitation no longer exists."))
    if found.email.lower() != user.email.lower():
        raise InvitationForAnother(_("This invitation is for %(email)s.") % {"email": found.email})
    limits.lock_account(found.account_id)
    membership = found.account.memberships.filter(user=user).first()
    is_open = _open(found).filter(expires_at__gt=timezone.now())
    if is_open.update(closed_at=timezone.now()):
        if membership is None:
            membership = Membership.objects.create(
                account=found.account, user=user, role=found.role
            )
            _record("member.joined", found, actor, role=(None, found.role))
            person_mails.tell_of_member(
                account_id=found.account_id, member=user, role=found.role, actor=actor
            )
    elif membership is None:
        raise InvitationGone(_("This invitation has been withdrawn or has expired."))
    return membership


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _open(invitation: Invitation) -> QuerySet[Invitation]:
    return Invitation.objects.filter(id=invitation.id, closed_at=None)


# --- Members ----------------------------------------------------------------------------------


@transaction.atomic
def change_role(*, membership: Membership, role: Role, actor: Actor) -> None:
    """Change a member's role. Raises LastOwner."""
    limits.lock_account(membership.account_id)
    current = Membership.objects.filter(id=membership.id).select_related("user", "account").first()
    if current is None or current.role == role:
        return
    _keep_an_owner(current)
    before, current.role = current.role, role
    current.save(update_fields=["role"])
    _record_member("member.role_changed", current, actor, role=(before, role))


@transaction.atomic
def remove_member(*, membership: Membership, actor: Actor) -> None:
    """Remove a member from the account, or let them leave. Raises LastOwner."""
    limits.lock_account(membership.account_id)
    current = Membership.objects.filter(id=membership.id).select_related("user", "account").first()
    if current is None:
        return
    _keep_an_owner(current)
    is_self = actor.user is not None and actor.user.id == current.user_id
    action = "member.left" if is_self else "member.removed"
    _record_member(action, current, actor, role=(current.role, None))
    current.delete()


@transaction.atomic
def rename_account(*, account: Account, name: str, actor: Actor) -> None:
    """Rename the account."""
    limits.lock_account(account.id)
    before = Account.objects.values_list("name", flat=True).get(id=account.id)
    if before == name:
        return
    Account.objects.filter(id=account.id).update(name=name)
    audit.record(
        "account.renamed", actor=actor, account_id=account.id, changes={"name": (before, name)}
    )


@transaction.atomic
def require_second_factor(*, account: Account, is_required: bool, actor: Actor) -> None:
    """Require that every member sets up a second factor before anything else, or stop that."""
    limits.lock_account(account.id)
    changed = Account.objects.filter(id=account.id, requires_second_factor=not is_required)
    if changed.update(requires_second_factor=is_required):
        audit.record(
            "account.second_factor_required" if is_required else "account.second_factor_optional",
            actor=actor,
            account_id=account.id,
        )


def _keep_an_owner(membership: Membership) -> None:
    others = membership.account.memberships.filter(role=Role.OWNER).exclude(id=membership.id)
    if membership.role == Role.OWNER and not others.exists():
        raise LastOwner(
            _("An account needs an owner. Make someone else an owner first, then try again.")
        )


def _keep_within_plan(account: Account) -> None:
    try:
        limits.refuse_beyond(account, limits.SEATS)
    except PlanLimitReached as refusal:
        raise TeamFull(refusal.sentence) from None


def _record(
    action: str, invitation: Invitation, actor: Actor, **changes: tuple[str | None, str | None]
) -> None:
    audit.record(
        action,
        actor=actor,
        account_id=invitation.account_id,
        target=invitation.email,
        changes=changes,
    )


def _record_member(
    action: str, membership: Membership, actor: Actor, **changes: tuple[str | None, str | None]
) -> None:
    audit.record(
        action,
        actor=actor,
        account_id=membership.account_id,
        target=membership.user.email,
        changes=changes,
    )

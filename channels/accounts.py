"""Accounts: find the account of a person, or create it."""

from __future__ import annotations

from django.db import transaction

from channels import audit
from channels.audit import COMMAND_LINE, Actor
from channels.errors import UnknownAccount
from channels.models import Account, Membership, User


@transaction.atomic
def ensure_account(*, owner_email: str, name: str = "", actor: Actor = COMMAND_LINE) -> Account:
    """Return the account that this person owns. Creates the person and the account if needed.

    A new account is called `name`, or else the address. Raises ValidationError if the address is
    not an e-mail address.
    """
    account = find_account(owner_email=owner_email)
    if account is not None:
        return account
    user = User.objects.filter(email__iexact=owner_email).first()
    if user is None:
        User._meta.get_field("email").clean(owner_email, None)
        user = User.objects.create_user(owner_email)
    account = Account.objects.create(name=name or owner_email)
    Membership.objects.create(account=account, user=user, role=Membership.Role.OWNER)
    audit.record("account.created", actor=actor, account_id=account.id, target=account.name)
    return account


def find_account(*, owner_email: str) -> Account | None:
    """Return the first account this person owns, or None."""
    membership = (
        Membership.objects.filter(user__email__iexact=owner_email, role=Membership.Role.OWNER)
        .select_related("account")
        .order_by("id")
        .first()
    )
    return membership.account if membership else None


def get_account(*, owner_email: str) -> Account:
    """Return the first account this person owns. Raises UnknownAccount."""
    account = find_account(owner_email=owner_email)
    if account is None:
        raise UnknownAccount(f"Nobody with the address '{owner_email}' owns an account.")
    return account

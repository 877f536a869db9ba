"""What a new person gets: an account, and credits once their address is verified."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from billing import grants
from billing.errors import ReferenceReused
from billing.models import CreditGrant
from channels import accounts
from channels.audit import Actor
from channels.models import Account, User
from common.money import MICROCREDITS_PER_CREDIT

# The ledger accepts a reference only once in each account.
REFERENCE = "sign-up"


@transaction.atomic
def make_account(user: User, *, address: str) -> Account:
    """Return the account this person owns. Creates one, named after them, if there is none."""
    # Takes the row lock, so that two clicks create one account.
    User.objects.select_for_update().get(id=user.id)
    return accounts.ensure_account(
        owner_email=user.email,
        name=name_for(user.email),
        actor=Actor(user.email, user, address),
    )


def name_for(email: str) -> str:
    """Return the initial name for the account of a person with this address.

    >>> name_for("anna.smith@example.com")
    "Anna Smith's account"
    """
    local = email.partition("@")[0].partition("+")[0]
    words = local.replace(".", " ").replace("_", " ").replace("-", " ").split()
    name = " ".join(word[:1].upper() + word[1:] for word in words) or email
    return _("%(name)s's account") % {"name": name}


def grant_credits(user: User) -> None:
    """Grant SIGNUP_CREDITS to the account this person owns, once."""
    account = accounts.find_account(owner_email=user.email)
    if account is None or not settings.SIGNUP_CREDITS:
        return
    try:
        grants.grant_credits(
            account=account,
            amount_microcredits=settings.SIGNUP_CREDITS * MICROCREDITS_PER_CREDIT,
            reason=gettext_noop("Welcome: credits for signing up"),
            actor="sign-up",
            reference=REFERENCE,
            category=CreditGrant.Category.PROMOTION,
        )
    except ReferenceReused:
        pass  # granted before, with another value of the setting

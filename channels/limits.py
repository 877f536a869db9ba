"""How much an account may have, by its plan.

The transaction that adds something counts under the account's row lock, so concurrent additions
take turns and the bound is exact. Code that adds takes this lock before any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels.errors import PlanLimitReached, UnknownChannel
from channels.models import (
    Account,
    ApiKey,
    Channel,
    FixedAnswer,
    Invitation,
    Membership,
    PromptVersion,
)
from channels.usable_keys import usable_keys
from common.pages.numbers import local_number


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on how many of something an account may have.

    `usual` applies without a plan, and if the plan sets no bound. It is far above what people need
    and far below what would burden other accounts.
    """

    field: str
    usual: int
    # What is said beyond it: the bound, and how to make room.
    words: Promise
    count: Callable[[int], int]

    def most(self, account: Account) -> int:
        """Return how many the account may have."""
        chosen = getattr(account.plan, self.field, None)
        return self.usual if chosen is None else int(chosen)


def lock_account(account_id: int) -> Account:
    """Return the account with its plan, locked until the transaction ends.

    Other transactions can still insert rows that refer to the account, such as the holds of a chat.
    On SQLite the transaction itself holds the only write lock.
    """
    locked = Account.objects.select_for_update(of=["self"], no_key=True)
    return locked.select_related("plan").get(id=account_id)


def lock_account_of(channel: Channel) -> Account:
    """Lock a channel's account. Raises UnknownChannel if the channel has just left that account."""
    account = lock_account(channel.account_id)
    if not Channel.objects.filter(id=channel.id, account_id=account.id).exists():
        raise UnknownChannel(f"There is no channel '{channel.id}'.")
    return account


def refuse_deleted(account: Account) -> None:
    """Raise PlanLimitReached if the locked account was deleted while the request was waiting.

    Nothing may be added to it: its text is erased once, and nobody gets in.
    """
    if account.deleted_at is not None:
        words = _("The account %(name)s has been deleted.")
        raise PlanLimitReached(words % {"name": account.name})


def refuse_beyond(account: Account, bound: Bound, *, adding: int = 1) -> None:
    """Raise PlanLimitReached unless the locked account has room for `adding` more."""
    refuse_deleted(account)
    most = bound.most(account)
    if bound.count(account.id) + adding > most:
        raise PlanLimitReached(str(bound.words) % {"most": local_number(most)})


def _count_keys(account_id: int) -> int:
    """Count active keys and all created in the last day, so that creating has a bound as well."""
    now = timezone.now()
    counted = Q(id__in=usable_keys(now).values("id")) | Q(created_at__gt=now - timedelta(days=1))
    return ApiKey.objects.filter(counted, channel__account_id=account_id).count()


def _count_seats(account_id: int) -> int:
    open_ones = Invitation.objects.filter(
        account_id=account_id, closed_at=None, expires_at__gt=timezone.now()
    )
    return Membership.objects.filter(account_id=account_id).count() + open_ones.count()


CHANNELS = Bound(
    "max_channels",
    500,
    gettext_lazy(
        "This account may have at most %(most)s channels. Delete one that never received a "
        "message, or ask the operator of this gateway for a larger plan."
    ),
    lambda account_id: Channel.objects.filter(account_id=account_id).count(),
)
KEYS = Bound(
    "max_keys",
    2_000,
    gettext_lazy(
        "This account may have at most %(most)s keys that are active or were created in "
        "the last 24 hours. Revoke unused keys and try again tomorrow, or ask the operator "
        "of this gateway for a larger plan."
    ),
    _count_keys,
)
PROMPT_VERSIONS = Bound(
    "max_prompt_versions",
    10_000,
    gettext_lazy(
        "This account may have at most %(most)s versions of system prompts, which are kept "
        "for good. Keep the prompts as they are, or ask the operator of this gateway for a "
        "larger plan."
    ),
    lambda account_id: PromptVersion.objects.filter(channel__account_id=account_id).count(),
)
SAVED_REPLIES = Bound(
    "max_saved_replies",
    5_000,
    gettext_lazy(
        "This account may have at most %(most)s saved replies. Delete some, or ask the "
        "operator of this gateway for a larger plan."
    ),
    lambda account_id: FixedAnswer.objects.filter(channel__account_id=account_id).count(),
)
SEATS = Bound(
    "max_members",
    100,
    gettext_lazy(
        "This account may have at most %(most)s members and open invitations. Remove a "
        "member or withdraw an invitation, or ask the operator of this gateway for a "
        "larger plan."
    ),
    _count_seats,
)
BOUNDS = (CHANNELS, KEYS, PROMPT_VERSIONS, SAVED_REPLIES, SEATS)

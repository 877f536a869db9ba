"""The end of an account: its owner deletes it. Its text goes, its books stay.

It happens in two steps. `close_account` is one transaction, after which nobody gets in and no key
works. `erase_closed` then erases text and forfeits credits in short transactions. Each of them can
be repeated, so a process that dies in between leaves work to the next run, and breaks nothing.

Names of the account and its channels, sums, ledger, and audit log stay: the books refer to them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from billing import credit_requests, grants, settlement
from billing.errors import CreditsExhausted
from billing.models import CreditRequest, Hold
from channels import audit, limits
from channels.audit import GATEWAY, Actor
from channels.models import (
    Account,
    AccountKey,
    ApiKey,
    Channel,
    FixedAnswer,
    Invitation,
    KeyHour,
    KeyUse,
    PersonMail,
    PromptVersion,
)
from conversations.archive import retention
from conversations.models import ChatSession, FailedRequest, ManagementRecord, ReplayedRequest

FORFEITED = "Forfeited: the owner deleted the account"
# A page erases at once what is no more than this. The rest is for the worker.
MOST_AT_ONCE = 2_000


@transaction.atomic
def close_account(*, account: Account, actor: Actor) -> None:
    """Let nobody in any more: disable the account, revoke its keys, remove its people. Idempotent.

    The text is still there. Call `erase_closed` after the transaction, or wait for the worker.
    """
    locked = limits.lock_account(account.id)
    if locked.deleted_at is not None:
        return
    now = timezone.now()
    Account.objects.filter(id=account.id).update(
        is_enabled=False, deleted_at=now, deleted_by=actor.name
    )
    keys = ApiKey.objects.filter(channel__account=account, revoked_at=None).update(revoked_at=now)
    keys += AccountKey.objects.filter(account=account, revoked_at=None).update(revoked_at=now)
    for asked in CreditRequest.objects.filter(account=account, state=CreditRequest.State.OPEN):
        credit_requests.withdraw(request=asked, actor=actor)
    Invitation.objects.filter(account=account, closed_at=None).update(closed_at=now)
    PersonMail.objects.filter(account=account).delete()
    people = locked.memberships.count()
    audit.record(
        "account.deleted",
        actor=actor,
        account_id=account.id,
        target=locked.name,
        changes={"members": (people, 0), "keys_revoked": (None, keys)},
    )
    locked.memberships.all().delete()


def is_small(account: Account) -> bool:
    """Return whether the account's text is little enough to erase while a page waits."""
    sessions = ChatSession.objects.filter(channel__account=account, message_count__gt=0)
    counts = sessions.values_list("message_count", flat=True)[: MOST_AT_ONCE + 1]
    failed = FailedRequest.objects.filter(channel__account=account)[: MOST_AT_ONCE + 1].count()
    return sum(counts) + failed <= MOST_AT_ONCE


def erase_all_closed(*, now: datetime) -> int:
    """Erase what is left of deleted accounts. Returns how many of them are finished now."""
    unfinished = Account.objects.filter(deleted_at__isnull=False, erased_at=None).order_by("id")
    return sum(erase_closed(account=account, now=now) for account in unfinished)


def erase_closed(*, account: Account, now: datetime) -> bool:
    """Erase the text of a closed account and forfeit its credits.

    Returns False if calls were in flight, which may still store an answer and be charged: a later
    run repeats everything.
    """
    flying = Hold.objects.filter(
        account_id=account.id, state=Hold.State.HELD, expires_at__gt=now
    ).exists()
    erased = sum(
        _erase_channel(channel, now) for channel in Channel.objects.filter(account=account)
    )
    ManagementRecord.objects.filter(account=account).delete()
    CreditRequest.objects.filter(account=account).exclude(note="").update(note="")
    is_settled = _forfeit_credits(account, now)
    return not flying and is_settled and _finish(account, erased, now)


def _erase_channel(channel: Channel, now: datetime) -> int:
    """Erase what people wrote in a channel. Returns how many messages."""
    erased = retention.erase_in_batches(ChatSession.objects.filter(channel=channel), now=now)
    retention.forget_session_ids(channel=channel)
    failed, replayed = FailedRequest.objects, ReplayedRequest.objects
    _blank(failed.filter(channel=channel).exclude(session_id="", page_url=""), page_url="")
    _blank(replayed.filter(channel=channel).exclude(session_id=""))
    with transaction.atomic():
        erased += retention.erase_channel(channel=channel, now=now)
        FixedAnswer.objects.filter(channel=channel).delete()
        versions = PromptVersion.objects.filter(channel=channel)
        versions.update(text="", note="", stop_words=None)
        # Addresses and clients of whoever called.
        KeyUse.objects.filter(key__channel=channel).delete()
        KeyHour.objects.filter(key__channel=channel).delete()
        Channel.objects.filter(id=channel.id).update(
            is_enabled=False,
            system_prompt="",
            stop_words=None,
            fallback_replies={},
            site_url="",
            external_id=None,
            tags="",
        )
    return erased


def _blank(rows: QuerySet[Any], **values: str) -> None:
    """Erase the session ids of requests, and other values, a few rows in each transaction."""
    while pks := list(rows.values_list("pk", flat=True)[: retention.EXPIRE_BATCH]):
        rows.filter(pk__in=pks).update(session_id="", **values)


def _forfeit_credits(account: Account, now: datetime) -> bool:
    """Take what is available, with an entry in the ledger. Returns False if a call took it."""
    available = settlement.get_available_microcredits(account_id=account.id, now=now)
    if available <= 0:
        return True
    try:
        grants.adjust_credits(
            account=account, change_microcredits=-available, reason=FORFEITED, actor=GATEWAY
        )
    except CreditsExhausted:
        return False
    return True


@transaction.atomic
def _finish(account: Account, erased: int, now: datetime) -> bool:
    """Note that nothing is left to erase. Of two runs at once, one does."""
    if not Account.objects.filter(id=account.id, erased_at=None).update(erased_at=now):
        return False
    audit.record(
        "account.erased",
        actor=GATEWAY,
        account_id=account.id,
        changes={"messages_erased": (None, erased)},
    )
    return True

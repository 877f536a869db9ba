"""Requests for credits: an owner asks, the staff approve or decline.

Each change is a guarded UPDATE from “open”, so it happens once even if people click twice or at the
same moment. An approval writes its grant in the same transaction. The grant's reference is the
request's, which the ledger takes only once.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import grants
from billing.errors import ReferenceReused, RequestDecided, RequestRefused
from billing.models import CreditGrant, CreditRequest
from channels import audit, limits
from channels.audit import Actor
from channels.models import Account
from common.money import MICROCREDITS_PER_CREDIT, show_credits
from common.pages.numbers import local_credits

LEAST = MICROCREDITS_PER_CREDIT
MOST = 1_000_000 * MICROCREDITS_PER_CREDIT
# The staff get an e-mail for each, so nobody may ask and withdraw all day.
REQUESTS_PER_DAY = 10
LATEST_SHOWN = 20

State, Mail = CreditRequest.State, CreditRequest.Mail
# The categories of a grant. An adjustment is not a grant.
CATEGORIES = (CreditGrant.Category.PURCHASE, CreditGrant.Category.PROMOTION)


# --- Reads --------------------------------------------------------------------------------------


def list_latest(*, account_id: int) -> list[CreditRequest]:
    """Return the account's latest requests, newest first. If one is open, it is the first."""
    own = CreditRequest.objects.filter(account_id=account_id).select_related("asked_by")
    return list(own.order_by("-id")[:LATEST_SHOWN])


def list_open(*, after: int = 0, most: int) -> list[CreditRequest]:
    """Return the open requests of all accounts after a number, oldest first."""
    found = _open().filter(id__gt=after).select_related("account", "asked_by")
    return list(found.order_by("id")[:most])


def list_decided(*, most: int) -> list[CreditRequest]:
    """Return the latest requests of all accounts that are no longer open, newest first."""
    found = CreditRequest.objects.exclude(state=State.OPEN)
    return list(found.select_related("account", "asked_by", "decided_by").order_by("-id")[:most])


def count_open() -> int:
    """Return how many requests wait for the staff."""
    return _open().count()


def _open() -> QuerySet[CreditRequest]:
    return CreditRequest.objects.filter(state=State.OPEN)


# --- The owner ----------------------------------------------------------------------------------


@transaction.atomic
def ask(
    *, account: Account, amount_microcredits: int, note: str, token: uuid.UUID, actor: Actor
) -> tuple[CreditRequest, bool]:
    """Ask the staff for credits. Returns the request and whether it is new.

    Idempotent by token: the same form returns the first request, whatever its state. Raises
    RequestRefused if another request is open, after too many in a day, and for an amount out of
    bounds. Locks the account's row, so that requests sent at once take turns.
    """
    if not LEAST <= amount_microcredits <= MOST:
        text = _("Ask for %(least)s to %(most)s credits. For more, contact the operator.")
        raise RequestRefused(text % {"least": local_credits(LEAST), "most": local_credits(MOST)})
    if limits.lock_account(account.id).deleted_at is not None:
        words = _("The account %(name)s has been deleted.")
        raise RequestRefused(words % {"name": account.name})
    own = CreditRequest.objects.filter(account_id=account.id)
    if (earlier := own.filter(token=token).first()) is not None:
        return earlier, False
    if own.filter(state=State.OPEN).exists():
        raise RequestRefused(
            _("A request is already open. Wait for the decision, or withdraw it and ask again.")
        )
    now = timezone.now()
    if own.filter(created_at__gt=now - timedelta(days=1)).count() >= REQUESTS_PER_DAY:
        text = _("This account has asked %(count)s times within a day. Ask again tomorrow.")
        raise RequestRefused(text % {"count": REQUESTS_PER_DAY})
    request = CreditRequest.objects.create(
        account=account,
        amount_microcredits=amount_microcredits,
        note=note,
        token=token,
        asked_by=actor.user,
        unsent_mail=Mail.TO_STAFF,
        created_at=now,
    )
    _record("credits.requested", request, actor, amount=(None, show_credits(amount_microcredits)))
    return request, True


@transaction.atomic
def withdraw(*, request: CreditRequest, actor: Actor) -> bool:
    """Withdraw an open request. Returns False if it is no longer open."""
    closed = {"state": State.WITHDRAWN, "decided_at": timezone.now(), "unsent_mail": Mail.NONE}
    if not _open().filter(id=request.id).update(**closed):
        return False
    _record("credits.request_withdrawn", request, actor)
    return True


# --- The staff ----------------------------------------------------------------------------------


@transaction.atomic
def approve(
    *,
    request: CreditRequest,
    amount_microcredits: int,
    reason: str,
    actor: Actor,
    category: str = CreditGrant.Category.PURCHASE,
) -> CreditRequest:
    """Approve an open request and grant the amount, which may differ from what was asked for.

    Raises RequestDecided if the request is no longer open, ReferenceReused if somebody has booked
    its reference by hand, and ValueError for an amount below one micro-credit.
    """
    _decide(request, State.APPROVED, reason, actor, granted_microcredits=amount_microcredits)
    entry, is_new = grants.grant_credits(
        account=request.account,
        amount_microcredits=amount_microcredits,
        reason=reason or "Credit request approved",
        actor=actor,
        reference=request.reference,
        category=category,
    )
    if not is_new:
        # Nobody else grants under this reference, so that entry is not this request's.
        raise ReferenceReused(f"The reference '{request.reference}' is taken.")
    CreditRequest.objects.filter(id=request.id).update(entry=entry)
    asked, granted = map(show_credits, (request.amount_microcredits, amount_microcredits))
    _record("credits.request_approved", request, actor, amount=(asked, granted), reason=reason)
    request.refresh_from_db()
    return request


@transaction.atomic
def decline(*, request: CreditRequest, reason: str, actor: Actor) -> CreditRequest:
    """Decline an open request. The owners read the reason. Raises RequestDecided."""
    if not reason:
        raise ValueError("A request is declined with a reason.")
    _decide(request, State.DECLINED, reason, actor)
    _record("credits.request_declined", request, actor, reason=reason)
    request.refresh_from_db()
    return request


def _decide(request: CreditRequest, state: str, reason: str, actor: Actor, **more: int) -> None:
    decided = {
        "state": state,
        "decision_reason": reason,
        "decided_by": actor.user,
        "decided_at": timezone.now(),
        "unsent_mail": Mail.TO_ASKER,
    }
    if any(amount <= 0 for amount in more.values()):
        raise ValueError("A grant must be more than 0 credits.")
    # One UPDATE both asks whether the request is open and closes it. A second request waits for the
    # row, and then finds it closed.
    if not _open().filter(id=request.id).update(**decided, **more):
        raise RequestDecided(_say_closed(request))


def _say_closed(request: CreditRequest) -> str:
    now = CreditRequest.objects.select_related("decided_by").get(id=request.id)
    if now.state == State.WITHDRAWN:
        return _("The owner has withdrawn this request.")
    is_approved = now.state == State.APPROVED
    if now.decided_by is None:
        if is_approved:
            return _("This request was already approved. Nothing was changed.")
        return _("This request was already declined. Nothing was changed.")
    if is_approved:
        said = _("This request was already approved by %(who)s. Nothing was changed.")
    else:
        said = _("This request was already declined by %(who)s. Nothing was changed.")
    return said % {"who": now.decided_by.email}


def _record(
    action: str,
    request: CreditRequest,
    actor: Actor,
    *,
    amount: tuple[str | None, str] | None = None,
    reason: str = "",
) -> None:
    changes: dict[str, tuple[str | None, str]] = {"amount": amount} if amount else {}
    if reason:
        changes["reason"] = (None, reason)
    audit.record(
        action,
        actor=actor,
        account_id=request.account_id,
        target=f"Request {request.id}",
        changes=changes,
    )

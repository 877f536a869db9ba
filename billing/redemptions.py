"""Redemption codes: created by staff, redeemed by account owners."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import grants
from billing.errors import CodeRefused, ReferenceReused
from billing.models import CreditGrant, LedgerEntry, RedemptionCode
from channels import audit
from channels.audit import Actor
from channels.models import Account
from channels.sealing import SealedColumn
from common import floods
from common.money import show_credits
from common.pages import dates

CODES = SealedColumn(
    "redemption codes",
    RedemptionCode,
    "code_ciphertext",
    digest="code_digest",
    prefix="redemption code:",
)
# Without lookalikes: 0 and O, 1, I and L, 5 and S, 2 and Z, 8 and B, U and V.
_ALPHABET = "34679ACDEFGHJKMNPQRTWXY"
_GROUPS, _GROUP_LENGTH = 4, 4
MOST_AT_ONCE = 500
ATTEMPTS_PER_MINUTE = 10

UNKNOWN = gettext_lazy("There is no such code. Check each letter: a code has four groups of four.")
USED = gettext_lazy("This account has already redeemed this code.")
TOO_MANY = gettext_lazy("You tried too many codes. Wait a minute, then try again.")


def derive_code(reference: str, number: int) -> str:
    """Return a code such as K7QM-X3FD-9WTA-HC4P: 72 bits, unguessable and easy to read out.

    Derived from the installation's secret, so that a form sent twice creates the same codes.
    """
    drawn = salted_hmac("billing.redemptions", f"{reference}:{number}", algorithm="sha256").digest()
    value, letters = int.from_bytes(drawn, "big"), ""
    for _letter in range(_GROUPS * _GROUP_LENGTH):
        value, rest = divmod(value, len(_ALPHABET))
        letters += _ALPHABET[rest]
    groups = range(0, len(letters), _GROUP_LENGTH)
    return "-".join(letters[start : start + _GROUP_LENGTH] for start in groups)


def make_codes(
    *,
    reference: str,
    count: int,
    amount_microcredits: int,
    actor: Actor,
    max_redemptions: int = 1,
    valid_until: datetime | None = None,
    credits_last_days: int | None = None,
    note: str = "",
) -> list[RedemptionCode]:
    """Create `count` codes of the same kind and return them, this once with `code` in plain text.

    Idempotent by reference: the same reference returns the same codes. The audit log says how many,
    never which.
    """
    codes = [
        _new_code(
            derive_code(reference, number),
            amount_microcredits=amount_microcredits,
            max_redemptions=max_redemptions,
            valid_until=valid_until,
            credits_last_days=credits_last_days,
            note=note,
            created_by=actor.user,
        )
        for number in range(count)
    ]
    if found := _find_made(codes):
        return found
    amount = show_credits(amount_microcredits)
    target = f"{count} of {amount} credits, {max_redemptions} redemptions each: {note}"
    try:
        with transaction.atomic():
            _store(codes)
            audit.record("codes.made", actor=actor, account_id=None, target=target)
    except IntegrityError:
        return _find_made(codes)
    return codes


def _new_code(code: str, **fields: Any) -> RedemptionCode:
    row = RedemptionCode(code_last_four=code[-4:], **fields)
    row.code, row.code_digest = code, CODES.digests_of(code)[0]
    return row


def _find_made(codes: list[RedemptionCode]) -> list[RedemptionCode]:
    """Return these codes as stored, if the same form was sent before."""
    clear = {digest: code.code for code in codes for digest in CODES.digests_of(code.code)}
    found = list(RedemptionCode.objects.filter(code_digest__in=clear).order_by("id"))
    for row in found:
        row.code = clear[row.code_digest]
    return found


def _store(codes: list[RedemptionCode]) -> None:
    """Store new codes. Ciphertexts are bound to row ids, which exist only after the insert."""
    RedemptionCode.objects.bulk_create(codes)
    names = CODES.seal_all([(row, row.code) for row in codes])
    RedemptionCode.objects.bulk_update(codes, names)


@transaction.atomic
def set_enabled(*, code: RedemptionCode, is_enabled: bool, actor: Actor) -> bool:
    """Allow or forbid redeeming a code. Returns False if nothing had to change."""
    changed = RedemptionCode.objects.filter(id=code.id, is_enabled=not is_enabled)
    if not changed.update(is_enabled=is_enabled):
        return False
    action = "code.enabled" if is_enabled else "code.disabled"
    audit.record(action, actor=actor, account_id=None, target=f"Code {code.id} {code.masked}")
    return True


def redeem(*, account: Account, text: str, actor: Actor) -> LedgerEntry:
    """Grant an account the value of a code, once. Returns the ledger entry.

    Raises CodeRefused, which says why, also after too many tries.
    """
    who = str(actor.user.pk) if actor.user else actor.name
    if not floods.is_within("redeemed-codes", who, per_minute=ATTEMPTS_PER_MINUTE):
        raise CodeRefused(TOO_MANY)
    code = find_code(text)
    if code is None:
        raise CodeRefused(UNKNOWN)
    return _redeem(account, code, actor)


def find_code(text: str) -> RedemptionCode | None:
    """Return a code however it was typed: lower case, with spaces, without hyphens."""
    bare = "".join(filter(str.isalnum, text.upper()))
    groups = range(0, len(bare), _GROUP_LENGTH)
    grouped = "-".join(bare[start : start + _GROUP_LENGTH] for start in groups)
    return RedemptionCode.objects.filter(CODES.found_by(grouped)).first()


@transaction.atomic
def _redeem(account: Account, code: RedemptionCode, actor: Actor) -> LedgerEntry:
    """Count the redemption and grant the credits: both or neither."""
    now = timezone.now()
    reference = f"code:{code.id}"
    if LedgerEntry.objects.filter(credit_account_id=account.id, reference=reference).exists():
        raise CodeRefused(USED)
    open_codes = RedemptionCode.objects.filter(
        Q(valid_until=None) | Q(valid_until__gt=now),
        id=code.id,
        is_enabled=True,
        redeemed_count__lt=F("max_redemptions"),
    )
    if not open_codes.update(redeemed_count=F("redeemed_count") + 1):
        raise CodeRefused(_why_closed(code, now))
    lasting = code.credits_last_days
    try:
        entry, is_new = grants.grant_credits(
            account=account,
            amount_microcredits=code.amount_microcredits,
            reason=f"Redemption code {code.masked}",
            actor=actor,
            reference=reference,
            category=CreditGrant.Category.PROMOTION,
            expires_at=now + timedelta(days=lasting) if lasting else None,
        )
    except ReferenceReused:
        raise CodeRefused(USED) from None
    if not is_new:
        # Another request was faster. The count above is rolled back.
        raise CodeRefused(USED)
    return entry


def _why_closed(code: RedemptionCode, now: datetime) -> str:
    code.refresh_from_db()
    if not code.is_enabled:
        return _("This code is switched off.")
    if code.valid_until is not None and code.valid_until <= now:
        text = _("This code expired at %(time)s UTC.")
        return text % {"time": dates.show(code.valid_until, "j M Y, H:i")}
    return _("This code has no redemptions left.")

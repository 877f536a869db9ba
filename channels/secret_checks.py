"""Checks that the settings hold the database's secrets, and refuses to write if they do not.

Every write under an encryption key or a pepper records its check value in the same transaction
(`require_ours`), so the database itself says which secrets it needs. Every start compares them
(channels/checks.py). For installations older than the check values, the migration verified the
secrets with the stored rows (channels/migrations/0010).
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F

from channels.errors import WrongSecrets
from channels.models import ApiKey, Provider, SecretCheck
from common import crypto, db

logger = logging.getLogger("gateway.secrets")

RING, PEPPER = "ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER"
# Random nonces of 96 bits are safe for 2^32 encryptions under one key (NIST SP 800-38D, 8.3).
MOST_ENCRYPTIONS = 2**31
# One encryption out of this many is counted, and counts for all of them. With an exact count every
# writer would wait for the same row. At 2^31 the standard deviation is 0.6 %.
COUNTED_AT_ONCE = 2**16

# The shared lock protects the row of a secret until the write under it is committed, because
# `forget` waits for it. It does not block other writers.
_RECORDED = "SELECT setting, name, check_value, encryptions FROM channels_secretcheck"
# Held while a new secret is recorded, so that only one of two installations can be the first.
_RECORDING_LOCK = 6_277_101_735


@dataclass(frozen=True, slots=True)
class Recorded:
    """One secret that the database needs."""

    setting: str
    name: str
    check_value: str
    encryptions: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A secret in the settings that does not match the database, and what to do about it."""

    setting: str
    words: str
    hint: str


def list_recorded(*, is_shared: bool = False) -> list[Recorded]:
    """Return the secrets that the database needs. With `is_shared`, locks them against `forget`."""
    lock = " FOR KEY SHARE" if is_shared and db.is_postgresql() else ""
    return [Recorded(*row) for row in db.fetch_rows(f"{_RECORDED} ORDER BY id{lock}", ())]


def find_problems() -> list[Problem]:
    """Return what is wrong with the secrets of this process."""
    recorded = list_recorded()
    unrecorded = _key_ids_of_rows() - {row.name for row in recorded if row.setting == RING}
    # Rows that were copied in by hand. Only decrypting them would show whether their key is ours.
    missing = unrecorded - check_values_of(RING).keys()
    return _compare(recorded) + [_missing(key_id) for key_id in sorted(missing)]


def check_values_of(setting: str) -> dict[str, str]:
    """Return the check values of this process's secrets by id. The first is the one that writes."""
    of_ring = setting == RING
    return crypto.check_values_of_ring() if of_ring else crypto.check_values_of_peppers()


def require_ours() -> None:
    """Raise WrongSecrets unless this process's secrets are the database's. Records new ones.

    Call it in the transaction that writes.
    """
    recorded = list_recorded(is_shared=True)
    _refuse(_compare(recorded))
    if not _current() <= {(row.setting, row.name, row.check_value) for row in recorded}:
        _record()


def require_fit() -> None:
    """Raise WrongSecrets unless the secrets fit. Checks only until they fit once in this process.

    Call it before answering that an API key is wrong. A server may have started without its
    database, and then this call is the first to notice a wrong pepper.
    """
    global _is_known_to_fit
    if not _is_known_to_fit:
        _refuse(find_problems())
        _is_known_to_fit = True


def note_fit() -> None:
    """Remember that the checks at start found that the secrets fit."""
    global _is_known_to_fit
    _is_known_to_fit = True


_is_known_to_fit = False


def count_encryption(key_id: str) -> None:
    """Count one encryption under a key."""
    if secrets.randbelow(COUNTED_AT_ONCE) == 0:
        row = SecretCheck.objects.filter(setting=RING, name=key_id)
        row.update(encryptions=F("encryptions") + COUNTED_AT_ONCE)


def forget(setting: str, name: str, *, is_needed: Any) -> bool:
    """Remove the record of a secret that no row needs any more. Returns whether it was removed.

    Calls `is_needed` while nobody can write under the secret.
    """
    with transaction.atomic():
        row = SecretCheck.objects.select_for_update().filter(setting=setting, name=name).first()
        if row is None or is_needed():
            return False
        row.delete()
        return True


def _refuse(problems: list[Problem]) -> None:
    if problems:
        for problem in problems:
            logger.error("secrets.refused", extra={"reason": f"{problem.words} {problem.hint}"})
        raise WrongSecrets


def _current() -> set[tuple[str, str, str]]:
    """Return (setting, id, check value) of the secrets that this process writes with."""
    return {(one, *next(iter(check_values_of(one).items()))) for one in (RING, PEPPER)}


def _compare(recorded: list[Recorded]) -> list[Problem]:
    """Return a problem for each recorded secret that is missing or has another check value."""
    ring, peppers = check_values_of(RING), check_values_of(PEPPER)
    problems = []
    for row in recorded:
        if row.setting == RING and row.name not in ring:
            problems.append(_missing(row.name))
        elif row.setting == RING and row.check_value != ring[row.name]:
            problems.append(_another(row.name))
        elif row.setting == PEPPER and row.check_value not in peppers.values():
            problems.append(_another_pepper())
    return problems


def _record() -> None:
    """Record the secrets that this process writes with."""
    with transaction.atomic():
        if db.is_postgresql():
            db.fetch_row("SELECT pg_advisory_xact_lock(%s)", (_RECORDING_LOCK,))
        _refuse(_compare(list_recorded(is_shared=True)))
        for setting, name, check_value in sorted(_current()):
            SecretCheck.objects.get_or_create(
                setting=setting, name=name, defaults={"check_value": check_value}
            )


def _key_ids_of_rows() -> set[str]:
    stored = (ApiKey.objects.all(), Provider.objects.exclude(key_ciphertext=None))
    lists = [rows.order_by().values_list("encryption_key_id", flat=True) for rows in stored]
    return {key_id for ids in lists for key_id in ids.distinct() if key_id}


_RESTORE = "Start with the .env (or secrets) this database was created with"


def _missing(key_id: str) -> Problem:
    return Problem(
        RING,
        f"The database holds keys encrypted with '{key_id}', which is not in ENCRYPTION_KEYS.",
        f"{_RESTORE}: add '{key_id}:<its key>' at the end of ENCRYPTION_KEYS. Without it those "
        "API keys cannot be shown again.",
    )


def _another(key_id: str) -> Problem:
    return Problem(
        RING,
        f"The key '{key_id}' in ENCRYPTION_KEYS is not the one this database was written with.",
        f"{_RESTORE}. Two installations may call different keys '{key_id}'; a new key needs an id "
        "of its own.",
    )


def _another_pepper() -> Problem:
    return Problem(
        PEPPER,
        "KEY_DIGEST_PEPPER is not the one this database was written with: it would recognize "
        "no API key.",
        f"{_RESTORE}, or, while the pepper is being rotated, with the earlier one in "
        "KEY_DIGEST_PEPPER_FALLBACKS (docs/how-to/rotate-secrets.md).",
    )

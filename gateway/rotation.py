"""Re-encrypts stored secrets with the newest key and pepper while the gateway serves.

All progress is in the rows, so an interrupted rotation continues where it stopped. Rows are
rewritten under their row locks, a few at a time. A concurrent change is not overwritten, and waits
for one batch at most.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from allauth.mfa.models import Authenticator
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from billing.redemptions import CODES
from channels import sealing, second_factors, secret_checks
from channels.sealing import ACCOUNT_KEYS, API_KEYS, INVITATIONS, PROVIDER_KEYS, SealedColumn
from channels.secret_checks import PEPPER, RING
from common.crypto import DecryptionError

BATCH = 100
# A later pass rewrites rows that somebody else had locked.
PASSES = 20

# A secret of the settings, such as `(RING, "k1")`. A pepper without an id is older than the ids.
Secret = tuple[str, str]


@dataclass(slots=True)
class Batch:
    """The result for a few rows: how many were read and rewritten, and which are unreadable."""

    seen: int = 0
    rewritten: int = 0
    unreadable: list[str] = field(default_factory=list)


class Store(Protocol):
    """A table that keeps secrets."""

    @property
    def label(self) -> str: ...

    def count(self) -> int:
        """Return how many rows a pass reads."""
        ...

    def rewrite(self, *, drop_unreadable: bool) -> Iterator[Batch]:
        """Rewrite all rows that do not use the newest secrets, some at a time.

        Leaves unreadable rows alone, or drops their ciphertext.
        """
        ...

    def left(self) -> Counter[Secret]:
        """Return how many rows need each secret."""
        ...


@dataclass(frozen=True, slots=True)
class Column:
    """The rows of one sealed column. Nobody looks up rows that `living` leaves out any more."""

    column: SealedColumn
    living: Q = field(default_factory=Q)

    @property
    def label(self) -> str:
        return self.column.label

    def count(self) -> int:
        return self._outdated().count()

    def rewrite(self, *, drop_unreadable: bool) -> Iterator[Batch]:
        last: Any = None
        while True:
            with transaction.atomic():
                rows = self._outdated().order_by("pk").select_for_update(skip_locked=True)
                found = list((rows if last is None else rows.filter(pk__gt=last))[:BATCH])
                if not found:
                    return
                batch = self._rewrite(found, drop_unreadable=drop_unreadable)
            last = found[-1].pk
            yield batch

    def left(self) -> Counter[Secret]:
        counts: Counter[Secret] = Counter()
        for name, count in _grouped(self._sealed(), "encryption_key_id"):
            counts[RING, name] += count
        if self.column.digest:
            for name, count in _grouped(self._rows().filter(self.living), "pepper_id"):
                counts[PEPPER, name] += count
        return counts

    def _rows(self) -> QuerySet[Any]:
        return self.column.model._default_manager.all()

    def _sealed(self) -> QuerySet[Any]:
        return self._rows().exclude(encryption_key_id="")

    def _outdated(self) -> QuerySet[Any]:
        current = Q(encryption_key_id=newest(RING))
        if self.column.digest:
            current &= Q(pepper_id=newest(PEPPER))
        return self._sealed().exclude(current)

    def _rewrite(self, rows: list[Any], *, drop_unreadable: bool) -> Batch:
        batch, opened = Batch(seen=len(rows)), []
        for row in rows:
            try:
                opened.append((row, self.column.unseal(row)))
            except DecryptionError as error:
                batch.unreadable.append(f"{self.label}: {row.pk}: {error}")
                if drop_unreadable:
                    self._drop(row)
        names = self.column.seal_all(opened)
        self._rows().bulk_update([row for row, _ in opened], names)
        batch.rewritten = len(opened)
        return batch

    def _drop(self, row: Any) -> None:
        field = self.column.model._meta.get_field(self.column.ciphertext)
        nothing = {self.column.ciphertext: None if field.null else b"", "encryption_key_id": ""}
        self._rows().filter(pk=row.pk).update(**nothing)


class SecondFactors:
    """The secrets in allauth's own table. Each stored text says which key it needs."""

    label = "second factors"

    def count(self) -> int:
        return self._rows().count()

    def rewrite(self, *, drop_unreadable: bool) -> Iterator[Batch]:
        last = 0  # nothing is dropped: a superuser removes a person's factor (/admin/)
        while True:
            with transaction.atomic():
                rows = self._rows().filter(pk__gt=last).order_by("pk")
                found = list(rows.select_for_update(skip_locked=True)[:BATCH])
                if not found:
                    return
                batch = Batch(seen=len(found))
                for factor in found:
                    self._rewrite(factor, batch)
            last = found[-1].pk
            yield batch

    def left(self) -> Counter[Secret]:
        texts = (self._text(factor) for factor in self._rows().iterator())
        return Counter((RING, second_factors.key_id_of(text)) for text in texts)

    def _rewrite(self, factor: Authenticator, batch: Batch) -> None:
        text = self._text(factor)
        if second_factors.is_bound(text) and second_factors.key_id_of(text) == newest(RING):
            return
        context = second_factors.context_of(user_id=factor.user_id, kind=factor.type)
        try:
            clear = second_factors.open_text(text, context=context)
        except DecryptionError as error:
            batch.unreadable.append(f"{self.label}: {factor.pk}: {error}")
            return
        sealed = sealing.encrypt(clear, context=context)
        factor.data[second_factors.MEMBERS[factor.type]] = second_factors.text_of(*sealed)
        factor.save(update_fields=["data"])
        batch.rewritten += 1

    @staticmethod
    def _rows() -> QuerySet[Authenticator]:
        rows: QuerySet[Authenticator] = Authenticator.objects.filter(
            type__in=second_factors.MEMBERS
        )
        return rows

    @staticmethod
    def _text(factor: Authenticator) -> str:
        return str(factor.data.get(second_factors.MEMBERS[factor.type], ""))


def stores() -> list[Store]:
    """Return all tables that keep secrets."""
    now = timezone.now()
    open_ones = Q(closed_at=None, expires_at__gt=now)
    lives_on = Q(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)
    return [
        Column(API_KEYS, living=lives_on),
        Column(ACCOUNT_KEYS, living=lives_on),
        Column(PROVIDER_KEYS),
        Column(INVITATIONS, living=open_ones),
        Column(CODES),
        SecondFactors(),
    ]


def newest(setting: str) -> str:
    """Return the id of the secret that new rows use."""
    return next(iter(secret_checks.check_values_of(setting)))


def rewrite_all(*, drop_unreadable: bool = False) -> Iterator[Batch]:
    """Rewrite every table, and repeat for locked rows. Pauses as long as each batch took.

    This leaves half of the time to others on SQLite, where a batch holds the only write lock.
    """
    for number in range(PASSES):
        rewritten, started = 0, time.monotonic()
        for store in stores():
            for batch in store.rewrite(drop_unreadable=drop_unreadable):
                # Every pass finds the unreadable rows again, but only the first reports them.
                yield batch if number == 0 else Batch(rewritten=batch.rewritten)
                rewritten += batch.rewritten
                time.sleep(time.monotonic() - started)
                started = time.monotonic()
        if not rewritten:
            return


def count_left(store_list: list[Store] | None = None) -> Counter[Secret]:
    """Return how many rows need each secret, in all tables."""
    return sum((store.left() for store in store_list or stores()), Counter())


def forget_unused() -> list[Secret]:
    """Stop requiring secrets that no row needs. Returns those that are still required."""
    kept = []
    for row in secret_checks.list_recorded():
        if row.name == newest(row.setting):
            continue

        def is_needed(secret: Secret = (row.setting, row.name)) -> bool:
            left = count_left()
            return bool(left[secret] or (secret[0] == PEPPER and left[PEPPER, ""]))

        if not secret_checks.forget(row.setting, row.name, is_needed=is_needed):
            kept.append((row.setting, row.name))
    return kept


def _grouped(rows: QuerySet[Any], name: str) -> list[tuple[str, int]]:
    return list(rows.order_by().values_list(name).annotate(Count("pk")))

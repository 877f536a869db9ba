"""Limits per UTC day. They are exact across processes, because a database row counts."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from channels.models import DailyCount
from common import crypto


@transaction.atomic
def count(kind: str, subject: str, *, most: int) -> bool:
    """Count one `kind` for `subject`. Returns False without counting if today's count is `most`.

    A rollback of the caller's transaction undoes the count, so failures are not counted.
    """
    row, _ = DailyCount.objects.get_or_create(
        kind=kind,
        subject_digest=crypto.digest(f"{kind}:{subject}"),
        day=timezone.now().date(),
    )
    free = DailyCount.objects.filter(id=row.id, count__lt=most)
    return free.update(count=F("count") + 1) == 1


def is_used_up(kind: str, subject: str, *, most: int) -> bool:
    """Return whether today's count is `most`, without counting."""
    digest = crypto.digest(f"{kind}:{subject}")
    rows = DailyCount.objects.filter(kind=kind, subject_digest=digest, count__gte=most)
    return rows.filter(day=timezone.now().date()).exists()


def mailbox_of(email: str) -> str:
    """Return a normalized form of an address, the same for every spelling of one mailbox.

    >>> mailbox_of("Anna+shop@Example.com")
    'anna@example.com'
    """
    local, at, domain = email.strip().lower().rpartition("@")
    return f"{local.partition('+')[0] or local}{at}{domain}"


def forget_earlier_days() -> int:
    """Delete the counts of the days before yesterday. Returns how many."""
    yesterday = timezone.now().date() - timedelta(days=1)
    return DailyCount.objects.filter(day__lt=yesterday).delete()[0]

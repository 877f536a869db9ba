"""Bounds on what may be done so often a day (UTC), exact across processes: the row decides."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from channels.models import DailyCount
from common import crypto


@transaction.atomic
def count(kind: str, subject: str, *, most: int) -> bool:
    """Count one of `kind` for `subject`; False, and nothing counted, where it was `most` today.

    Rolled back with the caller's transaction, so what fails is not counted.
    """
    row, _ = DailyCount.objects.get_or_create(
        kind=kind,
        subject_digest=crypto.digest(f"{kind}:{subject}"),
        day=timezone.now().date(),
    )
    free = DailyCount.objects.filter(id=row.id, count__lt=most)
    return free.update(count=F("count") + 1) == 1


def mailbox_of(email: str) -> str:
    """Return what stands for a mailbox, in whatever way its address is written.

    >>> mailbox_of("Anna+shop@Example.com")
    'anna@example.com'
    """
    local, at, domain = email.strip().lower().rpartition("@")
    return f"{local.partition('+')[0] or local}{at}{domain}"


def forget_earlier_days() -> int:
    """Delete the counts that bound nothing any more; returns how many."""
    yesterday = timezone.now().date() - timedelta(days=1)
    return DailyCount.objects.filter(day__lt=yesterday).delete()[0]

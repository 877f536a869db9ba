"""The gateway's recent health: answers, failures, and how long answers took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, QuerySet

from common.db import first_uuid7
from conversations.models import FailedRequest, Message

# A reply has the id of its hold, which is created when the request begins: at most this much before
# the reply.
LONGEST_REQUEST = timedelta(minutes=70)


@dataclass(frozen=True, slots=True)
class Pulse:
    """Counts since a moment. `p95_ms` is None if nothing was answered."""

    answered: int
    failures: dict[str, int]
    p95_ms: int | None

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def requests(self) -> int:
        return self.answered + self.failed


def read_pulse(*, since: datetime) -> Pulse:
    """Return the counts since a moment. Finds replies by the time in their ids."""
    replies = _replies_since(since)
    answered = replies.count()
    p95 = None
    if answered:
        ordered = replies.order_by("duration_ms").values_list("duration_ms", flat=True)
        p95 = ordered[min(answered - 1, answered * 95 // 100)]
    failed = FailedRequest.objects.filter(created_at__gte=since).order_by()
    counts = failed.values_list("error_code").annotate(count=Count("id")).order_by("-count")
    return Pulse(answered, dict(counts), p95)


def _replies_since(since: datetime) -> QuerySet[Message]:
    return Message.objects.filter(
        id__gte=first_uuid7(since - LONGEST_REQUEST),
        role=Message.Role.ASSISTANT,
        created_at__gte=since,
    )

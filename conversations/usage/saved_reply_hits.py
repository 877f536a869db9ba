"""How often each saved reply was given to visitors, and when last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, OuterRef, QuerySet, Subquery

from channels.models import FixedAnswer
from conversations.models import Message

DAYS = 30


@dataclass(frozen=True, slots=True)
class Hits:
    """The hits of a reply in the last DAYS days, and the last one ever."""

    count: int
    last_at: datetime | None


def list_hits(reply_ids: Sequence[int], *, now: datetime) -> dict[int, Hits]:
    """Return the hits of saved replies with live keys, by id, in one statement.

    Reads only the entries that these replies have in the index of saved replies. Replies given
    before messages stored which one they are do not count.
    """
    given = Message.objects.filter(fixed_answer_id=OuterRef("pk"), is_test=False).order_by()
    recent: QuerySet[Any, Any] = given.filter(created_at__gt=now - timedelta(days=DAYS))
    recent = recent.values("fixed_answer_id").annotate(count=Count("*")).values("count")
    last = given.order_by("-created_at").values("created_at")[:1]
    rows = FixedAnswer.objects.filter(id__in=reply_ids).values_list(
        "id", Subquery(recent), Subquery(last)
    )
    return {pk: Hits(count or 0, last_at) for pk, count, last_at in rows}

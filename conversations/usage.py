"""What was used and charged: one receipt, or totals that equal the ledger."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from billing.models import LedgerEntry
from channels.callers import Caller
from common.money import format_credits
from conversations.models import Message

GROUPS = ("day", "model")
# What a reply's id begins with under /v1, as clients of OpenAI expect it.
COMPLETION_PREFIX = "chatcmpl-"


@dataclass(frozen=True, slots=True)
class Period:
    """Whole UTC days, both ends included."""

    first: date
    last: date

    @property
    def starts_at(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def ends_at(self) -> datetime:
        return datetime.combine(self.last + timedelta(days=1), time(), UTC)


def find_receipt(*, caller: Caller, reference: str) -> dict[str, Any] | None:
    """Return what a reply was charged and why; None if unknown.

    It is known by its message id, the id of its completion, or its request id.
    A request id is the caller's own choice; of several replies under one it is the latest.
    """
    replies = _replies(caller)
    try:
        reply_id = uuid.UUID(reference.removeprefix(COMPLETION_PREFIX))
        message = replies.filter(id=reply_id).first()
    except ValueError:
        message = None
    message = message or replies.filter(request_id=reference).order_by("-created_at").first()
    return _describe_receipt(message) if message else None


def _describe_receipt(message: Message) -> dict[str, Any]:
    entry = LedgerEntry.objects.filter(hold_id=message.id).first()
    return {
        "message_id": str(message.id),
        "request_id": message.request_id,
        "created_at": message.created_at.isoformat().replace("+00:00", "Z"),
        "model": message.request_model,
        "provider": message.provider_name,
        "usage": {
            "prompt_tokens": message.input_tokens,
            "completion_tokens": message.output_tokens,
            "total_tokens": message.input_tokens + message.output_tokens,
            "estimated": message.is_estimated,
        },
        "price": {
            "per_reply": format_credits(message.price_per_reply),
            "per_1k_input_tokens": format_credits(message.price_per_1k_input),
            "per_1k_output_tokens": format_credits(message.price_per_1k_output),
        },
        "credits": {
            "charged": format_credits(message.charged_microcredits),
            "balance_after": (format_credits(entry.balance_after_microcredits) if entry else None),
        },
    }


def get_usage(*, caller: Caller, period: Period, group_by: str) -> dict[str, Any]:
    """Return the channel's replies, tokens and credits of a period, in all and by day or model."""
    replies = _replies(caller).filter(
        created_at__gte=period.starts_at, created_at__lt=period.ends_at
    )
    return {
        "from": period.first.isoformat(),
        "to": period.last.isoformat(),
        "time_zone": "UTC",
        "group_by": group_by,
        "total": _describe_sums(replies.aggregate(**_SUMS)),
        "groups": [
            {group_by: str(row.pop("group"))} | _describe_sums(row)
            for row in _grouped(replies, group_by)
        ],
    }


_SUMS = {
    "requests": Count("id"),
    "input": Sum("input_tokens", default=0),
    "output": Sum("output_tokens", default=0),
    "charged": Sum("charged_microcredits", default=0),
    "estimated": Count("id", filter=Q(is_estimated=True)),
}


def _grouped(replies: QuerySet[Message], group_by: str) -> list[dict[str, Any]]:
    by = TruncDate("created_at", tzinfo=UTC) if group_by == "day" else F("request_model")
    rows = replies.annotate(group=by).values("group").annotate(**_SUMS).order_by("group")
    return [dict(row) for row in rows]


def _describe_sums(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "requests": row["requests"],
        "prompt_tokens": row["input"],
        "completion_tokens": row["output"],
        "total_tokens": row["input"] + row["output"],
        "estimated_requests": row["estimated"],
        "credits": format_credits(row["charged"]),
    }


def _replies(caller: Caller) -> QuerySet[Message]:
    """The channel's own replies; a test key sees its own, which no live figure contains."""
    return Message.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, role=Message.Role.ASSISTANT
    )

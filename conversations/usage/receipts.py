"""Usage and charges: the receipt of one reply, or totals that equal the ledger."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import QuerySet

from billing.models import LedgerEntry
from channels.callers import Caller
from channels.providers.base import Usage
from channels.providers.usage import describe_usage
from common import db
from common.money import format_credits
from conversations.models import Message
from conversations.usage import rows as usage_rows
from conversations.usage.rows import Chosen, Coverage

GROUPS = ("day", "model")
ACCOUNT_GROUPS = (*GROUPS, "channel")
# Prefixes of a reply's id under /v1, as OpenAI clients expect them.
COMPLETION_PREFIX = "chatcmpl-"
RESPONSE_PREFIX = "resp_"


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
    """Return what a reply was charged and why, or None if it is unknown.

    `reference` is its message id, the id of its completion or response, or its request id. Callers
    choose request ids themselves. If several replies have the same one, this is the latest.
    """
    replies = _replies(caller)
    try:
        bare = reference.removeprefix(COMPLETION_PREFIX).removeprefix(RESPONSE_PREFIX)
        reply_id = uuid.UUID(bare)
        message = replies.filter(id=reply_id).first()
    except ValueError:
        message = None
    message = message or replies.filter(request_id=reference).order_by("-created_at").first()
    return _describe_receipt(message) if message else None


def _describe_receipt(message: Message) -> dict[str, Any]:
    entry = LedgerEntry.objects.filter(hold_id=message.id).first()
    usage = Usage(
        message.input_tokens,
        message.output_tokens,
        cached_input_tokens=message.cached_input_tokens,
        reasoning_tokens=message.reasoning_tokens,
    )
    price = {
        "per_reply": format_credits(message.price_per_reply),
        "per_1k_input_tokens": format_credits(message.price_per_1k_input),
        "per_1k_output_tokens": format_credits(message.price_per_1k_output),
    }
    if message.price_per_1k_cached_input is not None:
        price["per_1k_cached_input_tokens"] = format_credits(message.price_per_1k_cached_input)
    return {
        "message_id": str(message.id),
        "request_id": message.request_id,
        "created_at": message.created_at.isoformat().replace("+00:00", "Z"),
        "model": message.request_model,
        "provider": message.provider_name,
        "usage": describe_usage(usage) | {"estimated": message.is_estimated},
        "price": price,
        "credits": {
            "charged": format_credits(message.charged_microcredits),
            "balance_after": (format_credits(entry.balance_after_microcredits) if entry else None),
        },
    }


_COLUMNS = (
    "request_count", "estimated_count", "input_tokens", "output_tokens", "charged_microcredits",
)  # fmt: skip


def get_usage(*, caller: Caller, period: Period, group_by: str) -> dict[str, Any]:
    """Return the channel's replies, tokens, and credits in a period, and those by day or model.

    A test key sees only test replies.
    """
    coverage = usage_rows.cover_channels([caller.channel_id])
    return _sum_usage(coverage, period, group_by, is_test=caller.is_test)


def get_account_usage(
    *, account_id: int, channel_id: uuid.UUID | None, period: Period, group_by: str
) -> dict[str, Any]:
    """Return the same for the live replies of an account or of one of its channels."""
    coverage = usage_rows.cover_account(account_id, channel_id)
    return _sum_usage(coverage, period, group_by, is_test=False)


def _sum_usage(
    coverage: Coverage, period: Period, group_by: str, *, is_test: bool
) -> dict[str, Any]:
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    chosen = Chosen(period.starts_at, period.ends_at, is_test=is_test)
    rows, params = usage_rows.usage_rows(coverage, chosen, _COLUMNS)
    for channel_id, starts_at, _, model_id, error_code, *counts in db.fetch_rows(rows, params):
        if error_code:
            continue
        group = {
            "day": db.time_value(starts_at).date().isoformat(),
            "model": model_id,
            "channel": str(uuid.UUID(str(channel_id))),
        }[group_by]
        groups[group].update(dict(zip(_COLUMNS, counts, strict=True)))
    return {
        "from": period.first.isoformat(),
        "to": period.last.isoformat(),
        "time_zone": "UTC",
        "group_by": group_by,
        "total": _describe_sums(sum(groups.values(), Counter())),
        "groups": [{group_by: group} | _describe_sums(groups[group]) for group in sorted(groups)],
    }


def _describe_sums(sums: Mapping[str, int]) -> dict[str, Any]:
    return {
        "requests": sums["request_count"],
        "prompt_tokens": sums["input_tokens"],
        "completion_tokens": sums["output_tokens"],
        "total_tokens": sums["input_tokens"] + sums["output_tokens"],
        "estimated_requests": sums["estimated_count"],
        "credits": format_credits(sums["charged_microcredits"]),
    }


def _replies(caller: Caller) -> QuerySet[Message]:
    """Return the channel's replies: for a test key only test replies, otherwise only live ones."""
    return Message.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, role=Message.Role.ASSISTANT
    )

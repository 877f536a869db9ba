"""Usage and charges: the receipt of one request, or totals that equal the ledger."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from billing.models import LedgerEntry
from channels.callers import Caller
from channels.providers.base import Usage
from channels.providers.tokens import describe_usage
from common import db
from common.days import UTC_NAME, day_of, end_of, start_of
from common.money import format_credits
from conversations.models import FailedRequest, Message, ReplayedRequest
from conversations.usage import outcomes
from conversations.usage import rows as usage_rows
from conversations.usage.references import read_reply_id
from conversations.usage.rows import Chosen, Coverage

GROUPS = ("day", "model")
ACCOUNT_GROUPS = (*GROUPS, "channel")


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days of a time zone, both ends included."""

    first: date
    last: date
    zone: str = UTC_NAME

    @property
    def starts_at(self) -> datetime:
        return start_of(self.first, self.zone)

    @property
    def ends_at(self) -> datetime:
        return end_of(self.last, self.zone)


def find_receipt(*, caller: Caller, reference: str) -> dict[str, Any] | None:
    """Return how a request ended and what it cost, or None if it is unknown.

    `reference` is its message id, the id of its completion or response, or its request id. Callers
    choose request ids themselves. If several requests have the same one, this is the latest.
    """
    own = {"channel_id": caller.channel_id, "is_test": caller.is_test}
    replies = Message.objects.filter(**own, role=Message.Role.ASSISTANT)
    reply_id = read_reply_id(reference)
    if reply_id and (message := replies.filter(id=reply_id).first()):
        return _describe_reply(message)
    found = [
        latest
        for requests in (
            replies,
            FailedRequest.objects.filter(**own),
            ReplayedRequest.objects.filter(**own),
        )
        if (latest := requests.filter(request_id=reference).order_by("-created_at").first())
    ]
    if not found:
        return None
    latest = max(found, key=lambda request: request.created_at)
    return _describe_reply(latest) if isinstance(latest, Message) else _describe_free(latest)


def _describe_reply(message: Message) -> dict[str, Any]:
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
        "created_at": _describe_time(message.created_at),
        "outcome": outcomes.of_reply(message.provider_name),
        "reason": "",
        "model": message.request_model,
        "provider": message.provider_name,
        "usage": describe_usage(usage) | {"estimated": message.is_estimated},
        "price": price,
        "credits": {
            "charged": format_credits(message.charged_microcredits),
            "balance_after": (format_credits(entry.balance_after_microcredits) if entry else None),
        },
    }


def _describe_free(request: FailedRequest | ReplayedRequest) -> dict[str, Any]:
    """Describe a request that cost nothing."""
    if isinstance(request, FailedRequest):
        outcome, reason = outcomes.of_failure(request.error_code), request.error_code
        message_id = None
    else:
        outcome, reason = outcomes.REPLAYED, ""
        message_id = request.message_id
    return {
        "message_id": str(message_id) if message_id else None,
        "request_id": request.request_id,
        "created_at": _describe_time(request.created_at),
        "outcome": outcome,
        "reason": reason,
        "model": request.request_model,
        "provider": "",
        "usage": describe_usage(Usage(0, 0)) | {"estimated": False},
        "price": None,
        "credits": {"charged": format_credits(0), "balance_after": None},
    }


def _describe_time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


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
    step = usage_rows.step_of_days(period.starts_at, period.ends_at, period.zone)
    chosen = Chosen(period.starts_at, period.ends_at, step, is_test)
    rows, params = usage_rows.usage_rows(coverage, chosen, _COLUMNS)
    for channel_id, starts_at, _, model_id, error_code, *counts in db.fetch_rows(rows, params):
        if error_code:
            continue
        group = {
            "day": day_of(db.time_value(starts_at), period.zone).isoformat(),
            "model": model_id,
            "channel": str(uuid.UUID(str(channel_id))),
        }[group_by]
        groups[group].update(dict(zip(_COLUMNS, counts, strict=True)))
    return {
        "from": period.first.isoformat(),
        "to": period.last.isoformat(),
        "time_zone": period.zone,
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

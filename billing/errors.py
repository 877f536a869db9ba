"""Refusals by limits and credits, as callers see them, and bookkeeping errors."""

from __future__ import annotations

from common.errors import ApiError


class DailyQuotaReached(ApiError):
    status = 429
    code = "daily_quota_reached"

    def __init__(self, *, quota: int, retry_after: int) -> None:
        super().__init__(
            f"You have used today's {quota:,} messages. The quota resets at 00:00 UTC.",
            retry_after=retry_after,
        )


class CreditsExhausted(ApiError):
    status = 403
    code = "credits_exhausted"
    default_message = (
        "The account's credits cannot pay for this message. Its owner can add credits in the "
        "dashboard."
    )


class HoldNotOpen(Exception):
    """The hold was captured or released, or has expired, so it can no longer be charged."""


class ReferenceReused(Exception):
    """The reference belongs to an earlier grant of another amount."""


class CodeRefused(Exception):
    """A redemption code grants nothing. The message says why."""


class RequestRefused(Exception):
    """A request for credits was not taken. The message says why."""


class RequestDecided(Exception):
    """A request for credits is no longer open. The message says who closed it, and how."""

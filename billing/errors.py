"""Refusals by limits and credits, as callers see them, and bookkeeping errors."""

from __future__ import annotations

from datetime import UTC, datetime

from channels.calendars import Calendar
from common.days import UTC_NAME, moment_words, seconds_until, time_words
from common.errors import ApiError


class DailyQuotaReached(ApiError):
    status = 429
    code = "daily_quota_reached"

    def __init__(self, *, quota: int, calendar: Calendar, now: datetime) -> None:
        """The calendar is the account's."""
        resets_at, zone = calendar.quota_day.span(now).ends_at, calendar.quota_day.zone
        wait = seconds_until(resets_at, now)
        # After a change of time zone, the day may go on for longer.
        words = time_words if wait <= 25 * 60 * 60 else moment_words
        super().__init__(
            f"You have used today's {quota:,} messages. The quota resets at "
            f"{words(resets_at, zone)}.",
            retry_after=wait,
        )


class CreditsExhausted(ApiError):
    status = 403
    code = "credits_exhausted"
    default_message = (
        "The account's credits cannot pay for this message. Its owner can add credits in the "
        "dashboard."
    )


class SpendCapReached(ApiError):
    """The channel's or the key's cap for its day or month leaves too little for the call."""

    status = 403
    code = "spend_cap_reached"

    def __init__(
        self, *, resets_at: datetime, zone: str = UTC_NAME, limit: str = "", period: str = ""
    ) -> None:
        of_limit = f" of {limit} credits a {period}" if limit else ""
        super().__init__(
            f"The spend cap{of_limit} leaves too little for this message. It resets at "
            f"{moment_words(resets_at, zone)}. The channel's owner can raise it in the dashboard.",
            resets_at=f"{resets_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
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

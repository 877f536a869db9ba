"""How long an account's credits last, in words."""

from __future__ import annotations

from datetime import datetime, timedelta

from billing.balance import Balance, Runway
from common.days import RECENT_DAYS, UTC_NAME, day_of


def runway_words(balance: Balance, runway: Runway, now: datetime, zone: str = UTC_NAME) -> str:
    """Say in a sentence how long the credits last."""
    return _lasting(balance, runway, now, zone)[0]


def short_words(balance: Balance, runway: Runway, now: datetime, zone: str = UTC_NAME) -> str:
    """Say the same in a few words."""
    return _lasting(balance, runway, now, zone)[1]


def _lasting(balance: Balance, runway: Runway, now: datetime, zone: str) -> tuple[str, str]:
    if not balance.entry_count:
        return "No credits have been granted yet.", "None granted yet"
    if balance.is_exhausted:
        return "Used up: channels answer “credits_exhausted” until credits are added.", "Used up"
    if not runway.spent_microcredits:
        return f"Nothing was spent in the last {RECENT_DAYS} days.", f"No use in {RECENT_DAYS} days"
    pace = pace_words(runway)
    if runway.until is None:
        return f"Lasts for more than five years at {pace}.", "Lasts for years"
    today = day_of(now, zone)
    if runway.until == today:
        return f"Lasts until later today at {pace}.", "Lasts until later today"
    day, year = runway.until.day, f" {runway.until.year}" if runway.until.year != today.year else ""
    return (
        f"Lasts until about {day} {runway.until:%B}{year} at {pace}.",
        f"Lasts until {day} {runway.until:%b}{year}",
    )


def pace_words(runway: Runway) -> str:
    """Name the period that the pace was measured in."""
    if runway.is_whole:
        return f"the pace of the last {RECENT_DAYS} days"
    hours = max(1, round(runway.span / timedelta(hours=1)))
    if hours >= 48:
        return f"the pace of the last {round(hours / 24)} days"
    return f"the pace of the last {hours} hours" if hours > 1 else "the pace of the last hour"


def first_end(balance: Balance, runway: Runway, zone: str) -> datetime | None:
    """Return when the first credits expire, if that is before they are spent."""
    end = balance.next_expiry_at
    if end is None or balance.available <= 0:
        return None
    return end if runway.until is None or day_of(end, zone) < runway.until else None

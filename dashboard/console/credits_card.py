"""The card at the foot of the menu: what the account has, and how long that lasts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from billing.balance import Balance, Runway
from common.days import RECENT_DAYS, day_of
from common.money import show_credits

# The meter is full when the credits last this long or longer.
FULL_DAYS = 30
# Above this many micro-credits, decimals say nothing.
_NO_DECIMALS = 1000 * 1_000_000


@dataclass(frozen=True, slots=True)
class CreditsCard:
    """The card's words and its meter."""

    available: str
    exactly: str
    words: str
    # How long the credits last, from 0 to FULL_DAYS.
    days: int
    tone: str

    @property
    def percent(self) -> int:
        return self.days * 100 // FULL_DAYS


def describe_credits(balance: Balance, runway: Runway, now: datetime, zone: str) -> CreditsCard:
    """Return what the card says."""
    words, days = _lasts(balance, runway, now, zone)
    tone = "bad" if balance.is_exhausted else "warn" if balance.is_low else ""
    exactly = show_credits(balance.available)
    return CreditsCard(show_briefly(balance.available), exactly, words, days, tone)


def show_briefly(microcredits: int) -> str:
    """Return credits with two decimals at most, never more than there are: 7.129 is “7.12”."""
    unit = 1_000_000 if abs(microcredits) >= _NO_DECIMALS else 10_000
    return show_credits(microcredits // unit * unit)


def _lasts(balance: Balance, runway: Runway, now: datetime, zone: str) -> tuple[str, int]:
    if not balance.entry_count:
        return "None granted yet", 0
    if balance.is_exhausted:
        return "Used up", 0
    if not runway.spent_microcredits:
        return f"No use in {RECENT_DAYS} days", FULL_DAYS
    if runway.until is None:
        return "Lasts for years", FULL_DAYS
    today = day_of(now, zone)
    days = min(FULL_DAYS, (runway.until - today).days)
    if not days:
        return "Lasts until later today", 0
    year = f" {runway.until.year}" if runway.until.year != today.year else ""
    return f"Lasts until {runway.until.day} {runway.until:%b}{year}", days

"""The card at the foot of the menu: what the account has, and how long that lasts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from billing.balance import Balance, Runway
from common.days import day_of
from common.pages.numbers import local_credits
from dashboard.console.runway import short_words

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
    words, days = short_words(balance, runway, now, zone), _days_left(balance, runway, now, zone)
    tone = "bad" if balance.is_exhausted else "warn" if balance.is_low else ""
    exactly = local_credits(balance.available)
    return CreditsCard(show_briefly(balance.available), exactly, words, days, tone)


def show_briefly(microcredits: int) -> str:
    """Return credits with two decimals at most, never more than there are: 7.129 is “7.12”."""
    unit = 1_000_000 if abs(microcredits) >= _NO_DECIMALS else 10_000
    return local_credits(microcredits // unit * unit)


def _days_left(balance: Balance, runway: Runway, now: datetime, zone: str) -> int:
    if not balance.entry_count or balance.is_exhausted:
        return 0
    if runway.until is None:
        return FULL_DAYS
    return min(FULL_DAYS, (runway.until - day_of(now, zone)).days)

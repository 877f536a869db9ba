"""The months of statements. They begin and end at midnight in the account's time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from common.days import UTC_NAME, day_of, start_of

_TEXT = re.compile(r"(2[0-9]{3})-(0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month. Its text is `2026-04`."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def name(self) -> str:
        """The month in words, such as April 2026."""
        return f"{date(self.year, self.number, 1):%B %Y}"

    def plus(self, months: int) -> Month:
        """Return the month so many months later, or earlier if the number is negative."""
        year, index = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(year, index + 1)

    def since(self, other: Month) -> int:
        """Return how many months this one is later than another."""
        return (self.year - other.year) * 12 + self.number - other.number


def parse_month(text: str) -> Month | None:
    """Return the month that a text such as `2026-04` names, from the years 2000 to 2999."""
    found = _TEXT.fullmatch(text)
    return Month(int(found[1]), int(found[2])) if found else None


def bounds_of(month: Month, zone: str = UTC_NAME) -> tuple[datetime, datetime]:
    """Return when a month begins, and when the next one does."""
    following = month.plus(1)
    return (
        start_of(date(month.year, month.number, 1), zone),
        start_of(date(following.year, following.number, 1), zone),
    )


def month_of(moment: datetime, zone: str = UTC_NAME) -> Month:
    """Return the month that a moment is in."""
    day = day_of(moment, zone)
    return Month(day.year, day.month)

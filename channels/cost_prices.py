"""What replies cost the operator and what their credits were sold for, by the prices of their day.

A price counts from its day until the next one's. So a new price leaves what is past unchanged.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, TypeVar

from django.db.models import QuerySet

from channels.models import CostPrice, CreditPrice
from channels.models.catalogue import RESERVED_NAMES
from channels.routes import DEFAULT_PROVIDER

# The gateway itself answers under these names: the demo, saved replies, X-Simulate.
FREE_PROVIDERS = frozenset(RESERVED_NAMES) - {DEFAULT_PROVIDER}

T = TypeVar("T")


@dataclass(slots=True)
class _Dated(Generic[T]):
    """Values by the day on which each begins."""

    days: list[date] = field(default_factory=list)
    values: list[T] = field(default_factory=list)

    def add(self, day: date, value: T) -> None:
        """Add a value. Days must come in order."""
        self.days.append(day)
        self.values.append(value)

    def find(self, day: date) -> T | None:
        number = bisect_right(self.days, day)
        return self.values[number - 1] if number else None


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of replies. The cached ones are part of the input."""

    input: int
    output: int
    cached_input: int = 0


@dataclass(slots=True)
class Prices:
    """All prices, as `read_prices` found them."""

    costs: dict[tuple[str, str], _Dated[CostPrice]] = field(default_factory=dict)
    credits: _Dated[int] = field(default_factory=_Dated)

    def cost_picos(
        self, *, provider_name: str, model_id: str, day: date, tokens: Tokens
    ) -> int | None:
        """Return what tokens of a day cost the operator, or None if no price is known."""
        if provider_name in FREE_PROVIDERS:
            return 0
        dated = self.costs.get((provider_name, model_id))
        price = dated.find(day) if dated else None
        if price is None:
            return None
        cached_price = price.cached_input_price_micros
        if cached_price is None:
            cached_price = price.input_price_micros
        return (
            (tokens.input - tokens.cached_input) * price.input_price_micros
            + tokens.cached_input * cached_price
            + tokens.output * price.output_price_micros
        )

    def revenue_picos(self, *, microcredits: int, day: date) -> int | None:
        """Return what the credits charged on a day were sold for, or None if no price is known."""
        if not microcredits:
            return 0
        price = self.credits.find(day)
        return None if price is None else microcredits * price


def read_prices() -> Prices:
    """Return all prices. Two queries."""
    prices = Prices()
    for cost in CostPrice.objects.order_by("starts_on"):
        prices.costs.setdefault((cost.provider_name, cost.model_id), _Dated()).add(
            cost.starts_on, cost
        )
    for price in CreditPrice.objects.order_by("starts_on"):
        prices.credits.add(price.starts_on, price.price_micros)
    return prices


def changes_past(
    others: QuerySet[Any], *, old_day: date | None, new_day: date, is_changed: bool, today: date
) -> bool:
    """Return whether saving a price changes what replies so far cost or were sold for.

    `others` are the other prices for the same thing, `old_day` is the day of the price before the
    edit. A first price of days that had none changes nothing: it only says what they cost.
    """
    if old_day is not None and is_changed and old_day <= today:
        return True
    return new_day <= today and is_changed and others.filter(starts_on__lte=new_day).exists()

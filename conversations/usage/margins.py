"""What providers and models cost and their replies were sold for, by the prices of each day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from channels import cost_prices
from channels.cost_prices import Tokens
from common.currency import percent_of
from conversations.usage import provider_days


@dataclass(slots=True)
class MarginLine:
    """The figures of a provider, a model, both, or all. A figure without its prices is None."""

    provider_name: str = ""
    model_id: str = ""
    request_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    charged_microcredits: int = 0
    known_cost_picos: int = 0
    known_revenue_picos: int = 0
    # Requests of days for which nobody entered what they cost, or what a credit was sold for.
    without_cost_count: int = 0
    without_revenue_count: int = 0

    @property
    def token_count(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cost_picos(self) -> int | None:
        return None if self.without_cost_count else self.known_cost_picos

    @property
    def revenue_picos(self) -> int | None:
        return None if self.without_revenue_count else self.known_revenue_picos

    @property
    def margin_picos(self) -> int | None:
        cost, revenue = self.cost_picos, self.revenue_picos
        return None if cost is None or revenue is None else revenue - cost

    @property
    def margin_percent(self) -> Decimal | None:
        """Return the margin's share of the revenue, or None without revenue."""
        margin, revenue = self.margin_picos, self.revenue_picos
        return percent_of(margin, revenue) if margin is not None and revenue else None

    def add(self, other: MarginLine) -> None:
        self.request_count += other.request_count
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_input_tokens += other.cached_input_tokens
        self.charged_microcredits += other.charged_microcredits
        self.known_cost_picos += other.known_cost_picos
        self.known_revenue_picos += other.known_revenue_picos
        self.without_cost_count += other.without_cost_count
        self.without_revenue_count += other.without_revenue_count


@dataclass(slots=True)
class Margins:
    """The figures of a period: in total, by provider, by model, and by both."""

    total: MarginLine = field(default_factory=MarginLine)
    providers: list[MarginLine] = field(default_factory=list)
    models: list[MarginLine] = field(default_factory=list)
    pairs: list[MarginLine] = field(default_factory=list)


def get_margins(*, first: date, last: date) -> Margins:
    """Return the figures of live replies and drafts from one UTC day to another, both included."""
    prices = cost_prices.read_prices()
    pairs: dict[tuple[str, str], MarginLine] = {}
    for sums in provider_days.list_sums(first=first, last=last):
        tokens = Tokens(sums.input_tokens, sums.output_tokens, sums.cached_input_tokens)
        cost = prices.cost_picos(
            provider_name=sums.provider_name, model_id=sums.model_id, day=sums.day, tokens=tokens
        )
        revenue = prices.revenue_picos(microcredits=sums.charged_microcredits, day=sums.day)
        key = (sums.provider_name, sums.model_id)
        pairs.setdefault(key, MarginLine(*key)).add(
            MarginLine(
                request_count=sums.request_count,
                input_tokens=sums.input_tokens,
                output_tokens=sums.output_tokens,
                cached_input_tokens=sums.cached_input_tokens,
                charged_microcredits=sums.charged_microcredits,
                known_cost_picos=cost or 0,
                known_revenue_picos=revenue or 0,
                without_cost_count=sums.request_count if cost is None else 0,
                without_revenue_count=sums.request_count if revenue is None else 0,
            )
        )
    total = MarginLine()
    providers: dict[str, MarginLine] = {}
    models: dict[str, MarginLine] = {}
    for (provider_name, model_id), line in pairs.items():
        total.add(line)
        providers.setdefault(provider_name, MarginLine(provider_name)).add(line)
        models.setdefault(model_id, MarginLine(model_id=model_id)).add(line)
    return Margins(total, *map(_by_size, (providers.values(), models.values(), pairs.values())))


def _by_size(lines: Iterable[MarginLine]) -> list[MarginLine]:
    return sorted(lines, key=lambda one: (-one.request_count, one.provider_name, one.model_id))

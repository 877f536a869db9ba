"""A plain model of what the books should say: the other half of test_b2.py.

This model allocates spending to the grants at once, the soonest to end first. The gateway allocates
it only when it matters. Both must give the same result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

FAR_AWAY = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Held:
    """A hold: what it is for, and how it ended."""

    amount: int
    created_at: datetime
    expires_at: datetime
    state: str = "held"

    @property
    def day(self) -> date:
        return self.created_at.date()


@dataclass(slots=True)
class Grant:
    """Credits granted together, perhaps with an end."""

    rest: int
    expires_at: datetime | None

    @property
    def order(self) -> datetime:
        return self.expires_at or FAR_AWAY


@dataclass(slots=True)
class Model:
    """One account."""

    balance: int = 0
    entries: int = 0
    grants: list[Grant] = field(default_factory=list)
    holds: dict[Any, Held] = field(default_factory=dict)
    references: dict[str, int] = field(default_factory=dict)
    next_expiry_at: datetime | None = None

    # --- what can be read ---

    def open_holds(self) -> list[Held]:
        return [held for held in self.holds.values() if held.state == "held"]

    def held(self) -> int:
        return sum(held.amount for held in self.open_holds())

    def used(self, day: date) -> int:
        counted = [h for h in self.holds.values() if h.state in ("held", "captured")]
        return sum(held.day == day for held in counted)

    def rest_of_grants(self) -> int:
        return sum(grant.rest for grant in self.grants)

    def is_due(self, now: datetime) -> bool:
        return self.next_expiry_at is not None and self.next_expiry_at <= now

    def available(self, now: datetime) -> int:
        """What can be spent now. Reading it expires the grants that have ended."""
        self.expire_grants(now)
        return self.balance - sum(h.amount for h in self.open_holds() if h.expires_at > now)

    def can_hold(self, amount: int, now: datetime) -> bool:
        return not self.is_due(now) and self.balance - self.held() >= amount

    # --- what happens ---

    def grant(self, amount: int, expires_at: datetime | None) -> None:
        self.grants.append(Grant(amount, expires_at))
        self.balance += amount
        self.entries += 1
        if expires_at:
            self.next_expiry_at = min(expires_at, self.next_expiry_at or expires_at)

    def adjust(self, change: int) -> None:
        if change > 0:
            self.grant(change, None)
        else:
            self.spend(-change)

    def spend(self, amount: int) -> None:
        """Take credits from the grants that end soonest; on a tie, from the older grant."""
        self.balance -= amount
        self.entries += bool(amount)
        for grant in sorted(self.grants, key=lambda grant: grant.order):
            part = min(amount, grant.rest)
            grant.rest -= part
            amount -= part

    def hold(self, key: Any, amount: int, now: datetime, expires_at: datetime) -> None:
        self.holds[key] = Held(amount, now, expires_at)

    def capture(self, key: Any, charged: int) -> None:
        self.holds[key].state = "captured"
        self.spend(charged)

    # --- what time alone decides ---

    def free_up(self, now: datetime) -> None:
        self.expire_holds(now)
        self.expire_grants(now)

    def expire_holds(self, now: datetime) -> int:
        expired = [held for held in self.open_holds() if held.expires_at <= now]
        for held in expired:
            held.state = "expired"
        return len(expired)

    def expire_grants(self, now: datetime) -> bool:
        """Take back ended grants, except what calls in flight hold or may still cost."""
        if not self.is_due(now):
            return False
        available = self.balance - self.held()
        moments = []
        is_left = False
        for grant in sorted(self.grants, key=lambda grant: grant.order):
            if grant.rest and grant.expires_at and grant.expires_at <= now:
                part = min(max(0, grant.rest - self.held_before(grant.expires_at)), available)
                self.take_back(grant, part)
                available -= part
                is_left = is_left or grant.rest > 0
            elif grant.rest and grant.expires_at:
                moments.append(grant.expires_at)
        if is_left:
            moments.append(max([now, *(held.expires_at for held in self.open_holds())]))
        self.next_expiry_at = min(moments, default=None)
        return True

    def held_before(self, moment: datetime) -> int:
        return sum(held.amount for held in self.open_holds() if held.created_at < moment)

    def take_back(self, grant: Grant, amount: int) -> None:
        grant.rest -= amount
        self.balance -= amount
        self.entries += bool(amount)

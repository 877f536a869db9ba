"""The target for each figure, on two cores that nothing else uses, with two workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import Figure, Kept

# A chat or a page may cost this much more at any size than at the smallest.
GROWTH = 1.10


@dataclass(frozen=True, slots=True)
class Target:
    """The highest value of a figure. Case and name may be patterns: then the worst one counts."""

    bench: str
    case: str
    name: str
    words: str
    bound: float
    aim: float | None = None

    def worst(self, kept: Kept) -> Figure | None:
        return max(kept.like(self.case, self.name), key=lambda one: one.value, default=None)

    def is_met(self, value: float) -> bool:
        return value <= self.bound

    def words_of(self, one: Figure) -> str:
        """Return the words, and which figure is the worst if several are meant."""
        if "*" not in self.case + self.name:
            return self.words
        where = one.case if one.size is None else f"{one.size:,} {one.case}"
        what = one.name.rpartition(" ")[0].removeprefix("page ")
        return f"{self.words} ({what}{' at ' * bool(what)}{where})"

    def missed(self, kept: Kept) -> str:
        """Return in words that this run misses the target, or ''."""
        one = self.worst(kept)
        if one is None or self.is_met(one.value):
            return ""
        return f"{self.words_of(one)}: {one.value:g}, target {self.bound:g}"


class Least(Target):
    """The lowest value of a figure."""

    __slots__ = ()

    def worst(self, kept: Kept) -> Figure | None:
        return min(kept.like(self.case, self.name), key=lambda one: one.value, default=None)

    def is_met(self, value: float) -> bool:
        return value >= self.bound


STREAMS, LOADED = "streams, c=32", "0 ms, c=32"
TARGETS = (
    Target("chat", LOADED, "cpu_ms", "chat, 0 ms, 32 connections: gateway CPU ms", 2.2),
    Target("chat", LOADED, "database_cpu_ms", "chat, 0 ms, 32 connections: PostgreSQL CPU ms", 1.2),
    Target("chat", "50 ms, c=8", "added_p50_ms", "chat, 50 ms, 8 connections: added p50 ms", 8),
    Target("chat", "50 ms, c=8", "added_p99_ms", "chat, 50 ms, 8 connections: added p99 ms", 20),
    Target("chat", "50 ms, c=32", "added_p50_ms", "chat, 50 ms, 32 connections: added p50 ms", 20),
    Target("chat", "50 ms, c=32", "added_p99_ms", "chat, 50 ms, 32 connections: added p99 ms", 75),
    Target("chat", STREAMS, "added_p50_ms", "32 streams, first piece: added p50 ms", 5),
    Target("chat", STREAMS, "added_p99_ms", "32 streams, first piece: added p99 ms", 10),
    Target("chat", STREAMS, "relay_p50_ms", "32 streams, first piece on its way: p50 ms", 5),
    Target("chat", "", "statements", "plain chat: statements", 6, aim=3),
    Target("peers", "LiteLLM", "cpu_ratio", "gateway CPU to LiteLLM's, in turns", 0.30),
    Target("peers", "Portkey", "cpu_ratio", "gateway CPU to Portkey's, in turns", 2.2, aim=1),
    Least("ledger", "PostgreSQL", "charges_a_second", "one account: charges a second", 300),
    Least("inflight", "", "rate_of_ideal", "2,000 chats at once: rate of ideal", 0.97),
    Target("inflight", "", "rss_mb_a_thousand", "2,000 chats at once: memory MB per 1,000", 220),
    Target("inflight", "", "history_p95_ms", "2,000 chats at once: reads of history, p95 ms", 200),
    Target("growth", "*", "chat * ratio", "CPU of a chat at any size, to the smallest", GROWTH),
    Target("growth", "messages", "page * ratio", "CPU of a page by all messages", GROWTH),
    Target("growth", "channels", "page * ratio", "CPU of a page by channels", GROWTH),
    Target("growth", "messages of*", "page * ratio", "CPU of a page by own messages", GROWTH),
    Target("start", "[m-]*", "seconds", "seconds of a command", 1),
    Target("start", "server ready", "seconds", "seconds until the server is ready", 3),
)


def of(bench: str) -> Sequence[Target]:
    return [target for target in TARGETS if target.bench == bench]


def missed(kept: Kept) -> list[str]:
    """Return in words which targets a run misses."""
    words = [target.missed(kept) for target in of(kept.run.bench)]
    return [one for one in words if one]

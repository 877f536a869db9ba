"""Does a request cost the same as messages, channels, or a session's turns grow?

    python -m bench.growth [--quick | --long]

Every size has its own database, a copy of the smaller one with more rows, and its own process that
queries it (growth_process.py). All sizes take turns of some hundredths of a second, so that a drift
of the machine affects all alike. Reported is the median over the turns of the ratio to the smallest
size in the same turn. It counts CPU and statements, not time, because others may use the machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from bench import fill, micro, page, record
from bench.figures import RoundLog
from bench.growth_process import CHANNEL, CHAT, WARMING, GrowthProcess
from bench.load import TURNS_PER_SESSION
from bench.record import Figure, Kept
from bench.stand import Stand
from bench.targets import GROWTH
from tests.harness import databases
from tests.harness.databases import Postgres
from tests.harness.rig import Rig, manage

# A smaller difference is noise, not a cost.
LEAST_MS = 0.05
MODEL = "gemma2-9b-it"  # a small window: 20 turns fill it, like 1,000
FLAT = "All are flat within 10 %."
FILLER = "Filler %"
OWN_MESSAGES = 2_000
PAGES = {
    "overview": "/a/{account}/",
    "usage 7 d": "/a/{account}/usage/",
    "usage 30 d": "/a/{account}/usage/?range=30d",
    "top pages 30 d": "/a/{account}/usage/pages/?range=30d",
    "requests 7 d": "/a/{account}/requests/",
    "errors of a code": "/a/{account}/requests/?code=provider_error",
    "conversations": "/a/{account}/conversations/",
    "with a word": "/a/{account}/conversations/?text=parcel",
    "with errors": "/a/{account}/conversations/?errors_only=on",
    "one conversation": "/a/{account}/conversations/{session}/",
    "credits": "/a/{account}/credits/",
    "audit log": "/a/{account}/audit-log/",
    "channel": "/channels/{channel}/",
    "keys": "/channels/{channel}/keys/",
    "team": "/a/{account}/team/",
}
GATEWAY, DATABASE = "chat gateway", "chat PostgreSQL"
MESSAGES, OWN, CHANNELS = "messages", "messages of the account itself", "channels"
OF_TURNS = "turns of a session"
RUN = "growth"
# What one turn requests, and the number of turns behind the medians.
CHATS, VIEWS = 10, 2


@dataclass(frozen=True, slots=True)
class Length:
    messages: Sequence[int]
    own: Sequence[int]
    channels: Sequence[int]
    rounds: int = 80
    page_rounds: int = 24


_MILLION = (1_000, 10_000, 100_000, 1_000_000)
# An account has at least 10,000 messages of its own. With fewer its pages show less, such as days
# without an error, or fewer errors than a list holds.
QUICK = Length(_MILLION[:2], (10_000, 30_000), (1, 100), rounds=20, page_rounds=6)
FULL = Length(_MILLION, _MILLION[1:3], (1, 100, 10_000))
LONG = Length((*_MILLION, 10_000_000), _MILLION[1:], (1, 100, 10_000, 100_000))
TURNS = (20, 1_000)


@dataclass(frozen=True, slots=True)
class Size:
    """One database. Sizes of a family are compared with its first."""

    family: str
    count: int
    database: Postgres

    @property
    def has_pages(self) -> bool:
        return self.family != OF_TURNS


Running = tuple[Size, GrowthProcess]


# --- Databases of all sizes ---------------------------------------------------------------------


def make_sizes(rig: Rig, base: Postgres, length: Length) -> Iterator[Size]:
    """Fill and yield one database after the other."""
    yield from settled(rig, OWN, with_messages(base, length.own, whose=CHANNEL))
    fill.add_messages(base.url, whose=CHANNEL, name="own-", messages=OWN_MESSAGES)
    around = base.copy()
    fill.add_channels(around.url, 100)
    yield from settled(rig, MESSAGES, with_messages(around, length.messages, whose=FILLER))
    yield from settled(rig, CHANNELS, with_channels(base, length))
    yield from settled(rig, OF_TURNS, with_turns(base, length))


def settled(rig: Rig, family: str, made: Iterator[tuple[int, Postgres]]) -> Iterator[Size]:
    """Do what a worker and PostgreSQL would have done long before, and yield each size."""
    for count, database in made:
        manage(dict(rig.env) | {"DATABASE_URL": database.url}, "rollupusage")
        fill.settle(database.url)
        yield Size(family, count, database)


def with_messages(
    base: Postgres, counts: Sequence[int], *, whose: str
) -> Iterator[tuple[int, Postgres]]:
    at, there = base, 0
    for count in counts:
        at = at.copy()
        fill.add_messages(at.url, whose=whose, name=f"to-{count}-", messages=count - there)
        there = count
        yield count, at


def with_channels(base: Postgres, length: Length) -> Iterator[tuple[int, Postgres]]:
    for count in length.channels:
        at = base.copy()
        if count > 1:
            fill.add_channels(at.url, count - 1)
        yield count, at


def with_turns(base: Postgres, length: Length) -> Iterator[tuple[int, Postgres]]:
    chats = WARMING + 1 + length.rounds * CHATS
    for turns in TURNS:
        at = base.copy()
        # Named as the load names them.
        sessions = -(-chats // TURNS_PER_SESSION)
        fill.add_messages(at.url, whose=CHANNEL, name=f"{RUN}-0-", sessions=sessions, turns=turns)
        yield turns, at


# --- Measuring ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Figures:
    """The measurements: CPU ms by turn for each (family, count, name), and statements."""

    log: RoundLog
    turns: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    statements: dict[tuple[str, int, str], int] = field(default_factory=dict)

    def add(self, size: Size, name: str, value: float) -> None:
        self.turns.setdefault((size.family, size.count, name), []).append(value)
        told = {"family": size.family, "size": size.count, "what": name, "cpu_ms": value}
        self.log.write(told)

    def families(self) -> list[str]:
        return list(dict.fromkeys(family for family, _, _ in self.turns))

    def counts(self, family: str) -> list[int]:
        return list(dict.fromkeys(count for of, count, _ in self.turns if of == family))

    def names(self, family: str) -> list[str]:
        return list(dict.fromkeys(name for of, _, name in self.turns if of == family))

    def ratios(self, family: str, count: int, name: str) -> list[float]:
        """Return a figure by turn, as a ratio to the smallest size in the same turn."""
        first = self.counts(family)[0]
        pairs = zip(self.turns[family, count, name], self.turns[family, first, name], strict=True)
        return [mine / least if least else 1.0 for mine, least in pairs]

    def not_flat(self) -> Iterator[str]:
        for family, count, name in self.turns:
            first = self.counts(family)[0]
            ratio = statistics.median(self.ratios(family, count, name))
            more = statistics.median(self.turns[family, count, name]) - statistics.median(
                self.turns[family, first, name]
            )
            if ratio > GROWTH and more > LEAST_MS:
                yield f"{name} at {count:,} {family}: {ratio:.2f} times that at {first:,}"
        for (family, count, name), statements in self.statements.items():
            least = self.statements[family, self.counts(family)[0], name]
            if statements > least:
                yield f"{name} at {count:,} {family}: {statements} statements instead of {least}"


def measure_all(stand: Stand, sizes: Sequence[Size], length: Length) -> Figures:
    """Let every size take its turns."""
    measured = Figures(RoundLog("growth"))
    with ExitStack() as ending:
        running: list[Running] = []
        plan = stand.plan(connections=1, run=RUN, message=micro.MESSAGE)
        for size in tqdm(sizes, desc="processes", disable=None):
            pages = PAGES if size.has_pages else {}
            one = GrowthProcess(stand, size.database.url, plan, pages)
            ending.callback(one.end)
            running.append((size, one))
            for name, count in one.statements.items():
                measured.statements[size.family, size.count, name] = count
        for number in tqdm(range(length.rounds), desc="chats", disable=None):
            for size, one in in_turn(running, number):
                gateway, database = one.run(CHAT, CHATS)
                measured.add(size, GATEWAY, gateway)
                measured.add(size, DATABASE, database)
        running = [(size, one) for size, one in running if size.has_pages]
        views = [(number, name) for number in range(length.page_rounds) for name in PAGES]
        for number, name in tqdm(views, desc="pages", disable=None):
            for size, one in in_turn(running, number):
                measured.add(size, name, sum(one.run(name, VIEWS)))
    return measured


def in_turn(running: Sequence[Running], number: int) -> Sequence[Running]:
    """Return them in a new order each time, so none always comes first or after the same one."""
    first = number % len(running)
    order = [*running[first:], *running[:first]]
    return order[::-1] if number % 2 else order


# --- The figures --------------------------------------------------------------------------------


def kind_of(name: str) -> str:
    """Return the name under which a chat or a page is kept."""
    return f"page {name}" if name in PAGES else name


def figures_of(measured: Figures) -> Iterator[Figure]:
    """Yield CPU ms by size, its ratio to the smallest size, and the number of statements."""
    for family in measured.families():
        counts = measured.counts(family)
        for name in measured.names(family):
            for count in counts:
                cpu_ms = round(statistics.median(measured.turns[family, count, name]), 2)
                yield Figure(family, f"{kind_of(name)} cpu_ms", cpu_ms, size=count)
            for count in counts[1:]:
                quartiles = statistics.quantiles(measured.ratios(family, count, name), n=4)
                low, ratio, high = (round(one, 2) for one in quartiles)
                yield Figure(family, f"{kind_of(name)} ratio", ratio, low, high, size=count)
        for name in dict.fromkeys(of for at, _, of in measured.statements if at == family):
            seen = [float(measured.statements[family, count, name]) for count in counts]
            yield Figure(family, f"{kind_of(name)} statements", max(seen), min(seen), max(seen))


def method(length: Length) -> str:
    return (
        f"{length.rounds} turns of {CHATS} chats, {length.page_rounds} of {VIEWS} views of each "
        f"page. CPU ms, median x that of the smallest size in the same turn, median (quartiles). "
        f"Pages: gateway and PostgreSQL together, of an account with {OWN_MESSAGES:,} messages "
        f"where it is not that which grows."
    )


def run(length: Length, *, is_kept: bool) -> int:
    begun = replace(record.begin("growth"), method=method(length))
    with Stand("pg", channels=1) as stand:
        try:
            measured = measure_all(stand, fill_all(stand, length), length)
        finally:
            # Includes the one that was being filled when Ctrl+C was pressed.
            databases.drop_all()
    page.show(Kept(begun, list(figures_of(measured))), is_kept=is_kept)
    not_flat = list(measured.not_flat())
    print("\n".join(f"- NOT FLAT: {words}" for words in not_flat) or FLAT)
    return 1 if not_flat else 0


def fill_all(stand: Stand, length: Length) -> list[Size]:
    """Create the databases of all sizes. The progress line shows the share of rows."""
    base = stand.rig.database
    assert isinstance(base, Postgres)
    own = base.rows("SELECT id::text FROM channels_channel")
    stand.rig.manage("setchannel", own[0][0], "--model", MODEL)
    stand.rig.manage("collectstatic", "--no-input", "--verbosity", "0")
    rows = sum((*length.messages, *length.own, *length.channels, *TURNS))
    made = make_sizes(stand.rig, base, length)
    filled = []
    with tqdm(total=rows, desc="rows", disable=None) as bar:
        for size in made:
            bar.update(size.count)
            filled.append(size)
    return filled


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="small sizes; printed only")
    group.add_argument("--long", action="store_true", help="up to 10^7 messages, 10^5 channels")
    told = parser.parse_args()
    return run(QUICK if told.quick else LONG if told.long else FULL, is_kept=not told.quick)


if __name__ == "__main__":
    sys.exit(main())

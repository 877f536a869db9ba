"""Does a request cost the same when there is much: messages, channels, turns of a session?

    python -m bench.growth [--quick | --long]

Every size has a database of its own, a copy of the smaller one with more in it. Each round
measures all of them, one right after the other, so that a drift of the machine meets all alike;
what is told is the median over the rounds of the ratio to the smallest size in the same round.
CPU and statements are counted, not time: others may use the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acceptance import databases
from acceptance.databases import Postgres
from acceptance.processes import BASE_DIR
from bench import figures, fill, micro, plot
from bench.chat import REPORT
from bench.figures import RoundLog, spread
from bench.load import TURNS_PER_SESSION
from bench.stand import Stand, backend_cpu_seconds
from common.progress import track

PLOT = BASE_DIR / "docs" / "growth.png"
MOST = 1.10
# Below this a difference is the clock's tick, not a cost.
LEAST_MS = 0.15
MODEL = "gemma2-9b-it"  # a small window: 20 turns fill it, as 1,000 do
FLAT = "All are flat within 10 %, by the median or by the lowest."
OWN, FILLER = "Channel 0", "Filler %"
OWN_MESSAGES = 2_000
PAGES = {
    "overview": "/",
    "usage 7 d": "/usage/",
    "usage 30 d": "/usage/?range=30d",
    "top pages 30 d": "/usage/pages/?range=30d",
    "conversations": "/conversations/",
    "with a word": "/conversations/?text=parcel",
    "with errors": "/conversations/?errors_only=on",
    "one conversation": "/conversations/{session}/",
    "credits": "/credits/",
    "audit log": "/audit-log/",
    "channel": "/channels/{channel}/",
    "keys": "/channels/{channel}/keys/",
    "team": "/team/",
}
CHAT = ("chat, gateway CPU", "chat, PostgreSQL CPU")


@dataclass(frozen=True, slots=True)
class Length:
    messages: Sequence[int]
    channels: Sequence[int]
    rounds: int = 5
    requests: int = 160
    page_views: int = 12


QUICK = Length((1_000, 10_000), (1, 100), rounds=3, requests=60, page_views=6)
FULL = Length((1_000, 10_000, 100_000, 1_000_000), (1, 100, 10_000))
LONG = Length((1_000, 10_000, 100_000, 1_000_000, 10_000_000), (1, 100, 10_000, 100_000))
TURNS = (20, 1_000)


@dataclass(frozen=True, slots=True)
class Size:
    """One database. Sizes of a family are compared with its first."""

    family: str
    count: int
    database: Postgres


Measured = dict[str, float]


# --- Databases of all sizes ---------------------------------------------------------------------


def make_sizes(base: Postgres, length: Length) -> Iterator[Size]:
    """Fill and yield one database after the other."""
    fill.add_messages(base.url, whose=OWN, name="own-", messages=OWN_MESSAGES)
    yield from settled("messages", with_messages(base, length))
    yield from settled("channels", with_channels(base, length))
    yield from settled("turns of a session", with_turns(base, length))


def settled(family: str, made: Iterator[tuple[int, Postgres]]) -> Iterator[Size]:
    for count, database in made:
        fill.settle(database.url)
        yield Size(family, count, database)


def with_messages(base: Postgres, length: Length) -> Iterator[tuple[int, Postgres]]:
    at, there = base.copy(), 0
    fill.add_channels(at.url, 100)
    for count in length.messages:
        at = at.copy() if there else at
        fill.add_messages(at.url, whose=FILLER, name=f"to-{count}-", messages=count - there)
        there = count
        yield count, at


def with_channels(base: Postgres, length: Length) -> Iterator[tuple[int, Postgres]]:
    for count in length.channels:
        at = base.copy()
        if count > 1:
            fill.add_channels(at.url, count - 1)
        yield count, at


def with_turns(base: Postgres, length: Length) -> Iterator[tuple[int, Postgres]]:
    for turns in TURNS:
        at = base.copy()
        # Named as the load names them: micro talks on three connections, the first to warm up.
        for connection, requests in enumerate((100, length.requests, length.requests)):
            name, sessions = f"turns-{connection}-", -(-requests // TURNS_PER_SESSION)
            fill.add_messages(at.url, whose=OWN, name=name, sessions=sessions, turns=turns)
        yield turns, at


# --- Measuring ----------------------------------------------------------------------------------


def measure(stand: Stand, size: Size, length: Length, number: int) -> Measured:
    """Return ms of CPU and statements of a chat and of each page, on one database."""
    stand.rig.env = stand.rig.env | {"DATABASE_URL": size.database.url}
    stand.rig.database = size.database
    run = "turns" if size.family.startswith("turns") else f"growth{number}"
    plan = stand.plan(connections=1, run=run, message=micro.MESSAGE)
    chat = micro.ask_plan(stand, plan, length.requests)
    told: Measured = {
        CHAT[0]: chat["cpu_ms"],
        CHAT[1]: chat["database_cpu_ms"],
        "statements chat": sum(
            calls for name, (_, _, calls) in chat["stops"].items() if micro.is_statement(name)
        ),
    }
    if not size.family.startswith("turns"):
        told |= ask_pages(stand, length.page_views)
    return told


def ask_pages(stand: Stand, views: int) -> Measured:
    question = {"views": views, "database": stand.rig.database.url}
    done = subprocess.run(
        [sys.executable, "-m", "bench.growth", "--inside"],
        env=stand.rig.env,
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    told: Measured = json.loads(done.stdout)
    return told


def view_pages(views: int, database: str) -> Measured:
    """Look at each page in this process, logged in as the owner of the first channel."""
    import django

    django.setup()
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from channels.models import User
    from conversations.models import ChatSession

    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(User.objects.get(email="owner0@example.com"))
    session = ChatSession.objects.filter(channel__name=OWN).earliest("id")
    told: Measured = {}
    for name, template in PAGES.items():
        path = template.format(session=session.pk, channel=session.channel_id)
        for _ in range(2):
            # A redirect would be cheap, and flat.
            if (status := client.get(path).status_code) != 200:
                raise RuntimeError(f"{path}: {status}")
        with CaptureQueriesContext(connection) as queries:
            client.get(path)
        statements = len(queries)  # now: the next request begins with an empty log
        server, cpu, wall = backend_cpu_seconds(database), time.thread_time(), time.perf_counter()
        for _ in range(views):
            client.get(path)
        wall = time.perf_counter() - wall
        cpu = time.thread_time() - cpu + backend_cpu_seconds(database) - server
        told |= {
            name: 1000 * cpu / views,
            f"{name}, time": 1000 * wall / views,
            f"statements {name}": statements,
        }
    return told


# --- The report ---------------------------------------------------------------------------------


class Rounds:
    """What was measured: family -> count -> one dictionary a round."""

    def __init__(self) -> None:
        self.of: dict[str, dict[int, list[Measured]]] = {}

    def add(self, size: Size, measured: Measured) -> None:
        self.of.setdefault(size.family, {}).setdefault(size.count, []).append(measured)

    def values(self, family: str, count: int, name: str) -> list[float]:
        return [one[name] for one in self.of[family][count]]

    def ratio(self, family: str, count: int, name: str) -> float:
        """Return the median over the rounds of a figure, as a share of the smallest size's."""
        first = next(iter(self.of[family]))
        pairs = zip(self.values(family, count, name), self.values(family, first, name), strict=True)
        return statistics.median(mine / least if least else 1.0 for mine, least in pairs)

    def names(self, family: str) -> list[str]:
        return [name for name in (*CHAT, *PAGES) if name in next(iter(self.of[family].values()))[0]]

    def not_flat(self) -> Iterator[str]:
        for family, sizes in self.of.items():
            first = next(iter(sizes))
            for count in sizes:
                for name in (*self.names(family), *self._statements(family)):
                    ratio = self.ratio(family, count, name)
                    lowest = min(self.values(family, count, name))
                    least = min(self.values(family, first, name))
                    # Others on the machine only ever add: what is a cost is in the lowest as well.
                    if ratio > MOST and lowest > least * MOST and lowest - least > LEAST_MS:
                        yield f"{name} at {count:,} {family}: {ratio:.2f} times that at {first:,}"

    def _statements(self, family: str) -> list[str]:
        sizes = next(iter(self.of[family].values()))
        return [name for name in sizes[0] if name.startswith("statements ")]


def table(rounds: Rounds, family: str) -> Iterator[str]:
    counts = list(rounds.of[family])
    yield f"| {family} | " + " | ".join(f"{count:,}" for count in counts) + " | statements |"
    yield "|---" * (len(counts) + 2) + "|"
    for name in rounds.names(family):
        cells = [cell(rounds, family, count, name) for count in counts]
        yield f"| {name} | " + " | ".join(cells) + f" | {statements(rounds, family, name)} |"


def cell(rounds: Rounds, family: str, count: int, name: str) -> str:
    ratio = rounds.ratio(family, count, name)
    return f"{spread(rounds.values(family, count, name))} x {ratio:.2f}"


def statements(rounds: Rounds, family: str, name: str) -> str:
    """Return how many statements a page or a chat took, at the fewest and the most; said once."""
    key = {CHAT[0]: "", CHAT[1]: "statements chat"}.get(name, f"statements {name}")
    if not key:
        return ""
    seen = [statistics.median(rounds.values(family, count, key)) for count in rounds.of[family]]
    return f"{min(seen):.0f}" if min(seen) == max(seen) else f"{min(seen):.0f} to {max(seen):.0f}"


def report(rounds: Rounds, length: Length, heading: str, other_load: str) -> str:
    bad = list(rounds.not_flat())
    verdicts = [f"- NOT FLAT: {words}" for words in bad] or [
        "All are flat within 10 %, by the median and by the lowest."
    ]
    lines = [
        f"## {heading}, growth (`make bench-growth`)",
        "",
        f"{length.rounds} rounds of {length.requests} chats and {length.page_views} views of each "
        f"page. CPU ms: median (lowest to highest) x the smallest size's. Pages: "
        f"gateway and PostgreSQL together, of an account with {OWN_MESSAGES:,} messages. "
        f"{other_load}",
        "",
    ]
    for family in rounds.of:
        lines += [*table(rounds, family), ""]
    return "\n".join([*lines, *verdicts]) + "\n"


def draw(rounds: Rounds) -> None:
    lines = {
        name: [
            (float(count), statistics.median(rounds.values("messages", count, name)))
            for count in rounds.of["messages"]
        ]
        for name in rounds.names("messages")
    }
    labels = {float(count): f"{count:,}" for count in rounds.of["messages"]}
    plot.write(PLOT, "CPU ms by messages stored", lines, labels, log=True)


def run(length: Length, *, is_kept: bool) -> int:
    heading, other_load = figures.heading(), figures.other_load()
    with Stand("pg", channels=1) as stand:
        try:
            rounds = measure_all(stand, fill_all(stand, length), length)
        finally:
            # Also what was being filled when somebody pressed Ctrl+C.
            databases.drop_all()
    section = report(rounds, length, heading, other_load)
    print(section)
    if is_kept:
        draw(rounds)
        with REPORT.open("a") as kept:
            kept.write(f"\n{section}\n![CPU by messages stored]({PLOT.name})\n")
    return 1 if any(rounds.not_flat()) else 0


def fill_all(stand: Stand, length: Length) -> list[Size]:
    """Make the databases of all sizes; the line's share is that of rows, as time goes by them."""
    base = stand.rig.database
    assert isinstance(base, Postgres)
    own = base.rows("SELECT id::text FROM channels_channel")
    stand.rig.manage("setchannel", own[0][0], "--model", MODEL)
    stand.rig.manage("collectstatic", "--no-input", "--verbosity", "0")
    rows = sum(length.messages) + sum(length.channels) + sum(TURNS)
    made = make_sizes(base, length)
    return list(track(made, total=rows, label="rows", weigh=lambda size: size.count))


def measure_all(stand: Stand, sizes: Sequence[Size], length: Length) -> Rounds:
    """Measure every size in every round; each figure is kept as it comes."""
    log, rounds = RoundLog("growth"), Rounds()
    turns = [(number, size) for number in range(length.rounds) for size in sizes]
    for number, size in track(turns, total=len(turns), label="measures"):
        measured = measure(stand, size, length, number)
        rounds.add(size, measured)
        log.write({"round": number, "family": size.family, "size": size.count} | measured)
    return rounds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="small sizes; printed only")
    group.add_argument("--long", action="store_true", help="up to 10^7 messages, 10^5 channels")
    group.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.inside:
        json.dump(view_pages(**json.load(sys.stdin)), sys.stdout)
        return 0
    return run(QUICK if told.quick else LONG if told.long else FULL, is_kept=not told.quick)


if __name__ == "__main__":
    sys.exit(main())

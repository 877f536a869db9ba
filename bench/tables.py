"""The newest figures as Markdown tables, for docs/performance.md and for the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from bench import record, targets
from bench.record import Figure, Kept
from bench.targets import Least

Lines = Iterator[str]
Row = Iterable[str]

CHAT = {
    "requests/s": "rps",
    "gateway CPU ms": "cpu_ms",
    "PostgreSQL CPU ms": "database_cpu_ms",
    "added p50 ms": "added_p50_ms",
    "added p99 ms": "added_p99_ms",
    "direct p50 ms": "direct_p50_ms",
    "direct p99 ms": "direct_p99_ms",
}
PEERS = {
    "requests/s": "rps",
    "CPU ms": "cpu_ms",
    "gateway's CPU to it": "cpu_ratio",
    "PostgreSQL CPU ms": "database_cpu_ms",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "memory MB": "rss_mb",
}
INFLIGHT = {
    "rate of ideal": "rate_of_ideal",
    "added p50 ms": "added_p50_ms",
    "added p99 ms": "added_p99_ms",
    "gateway CPU ms": "cpu_ms",
    "PostgreSQL CPU ms": "database_cpu_ms",
    "memory MB, just started": "started_rss_mb",
    "memory MB, in use and idle": "idle_rss_mb",
    "memory MB, most": "rss_mb",
    "memory MB per 1,000 chats, beyond idle": "rss_mb_a_thousand",
    "history p95 ms": "history_p95_ms",
}
LEDGER = {
    "charges a second": "charges_a_second",
    "refusals a second when empty": "refusals_a_second",
    "PostgreSQL CPU ms a charge": "database_cpu_ms",
}


def number(value: float) -> str:
    """Return a value with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cell(figure: Figure | None) -> str:
    """Return 'median (low to high)', or '' if there is no such figure."""
    if figure is None:
        return ""
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return number(figure.value)
    return f"{number(figure.value)} ({number(figure.low)} to {number(figure.high)})"


def table(head: Sequence[str], rows: Iterable[Row]) -> Lines:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def grid(kept: Kept, what: str, columns: Mapping[str, str]) -> Lines:
    """Return a table with a row for each case, and a column for each figure of `columns`."""
    names = set(columns.values())
    cases = dict.fromkeys(one.case for one in kept.figures if one.name in names)
    rows = [[case, *(cell(kept.get(case, name)) for name in columns.values())] for case in cases]
    return table([what, *columns], rows)


def chat(kept: Kept) -> Lines:
    return grid(kept, "provider, connections", CHAT)


def peers(kept: Kept) -> Lines:
    return grid(kept, "server", PEERS)


def ledger(kept: Kept) -> Lines:
    return grid(kept, "database", LEDGER)


def inflight(kept: Kept) -> Lines:
    rows = [[words, cell(kept.get("", name))] for words, name in INFLIGHT.items()]
    return table(["figure", "median (lowest to highest)"], rows)


def start(kept: Kept) -> Lines:
    yield from grid(kept, "what", {"seconds": "seconds"})
    slowest = [f"{one.case.split()[-1]} {one.value:g}" for one in kept.like("import *", "own_ms")]
    yield ""
    yield f"The slowest packages, ms in their own modules: {', '.join(slowest)}."


def growth(kept: Kept) -> Lines:
    """Return a row for each page: ms at the smallest size, and the ratio at the largest."""
    sizes: dict[str, list[int]] = {}
    for one in kept.figures:
        if one.size is not None:
            sizes.setdefault(one.case, []).append(one.size)
    spans = {case: (min(found), max(found)) for case, found in sizes.items()}
    head = [f"{case}, {low:,} to {high:,}" for case, (low, high) in spans.items()]
    names = dict.fromkeys(one.name.rpartition(" ")[0] for one in kept.figures if one.size)
    rows = (
        [
            name.removeprefix("page "),
            *(_growth_cell(kept, case, name, *spans[case]) for case in spans),
        ]
        for name in names
    )
    return table(["CPU ms at the smallest size, ratio at the largest", *head], rows)


def _growth_cell(kept: Kept, case: str, name: str, low: int, high: int) -> str:
    first, ratio = kept.get(case, f"{name} cpu_ms", low), kept.get(case, f"{name} ratio", high)
    return f"{number(first.value)}, x {cell(ratio)}" if first else ""


def pair(kept: Kept) -> Lines:
    """Return a row for the gateway and one for PostgreSQL, of a comparison of two commits."""
    names = ("before_cpu_ms", "now_cpu_ms", "ratio", "ratio_by_turn")
    rows = (
        [f"{case}: {who}", *(cell(kept.get(case, f"{who} {name}")) for name in names)]
        for case in dict.fromkeys(one.case for one in kept.figures)
        for who in ("gateway", "PostgreSQL")
    )
    return table(["beside", "before, CPU ms", "now", "ratio", "of turns, quartiles"], rows)


def pairs(runs: Iterable[Kept]) -> Lines:
    """Return a row for each comparison of two commits."""
    rows = []
    for kept in runs:
        for case in dict.fromkeys(one.case for one in kept.figures):
            before, _, what = case.rpartition(", ")
            ratios = [
                cell(kept.get(case, f"{who} ratio_by_turn") or kept.get(case, f"{who} ratio"))
                for who in ("gateway", "PostgreSQL")
            ]
            rows.append([kept.run.at[:10], kept.run.commit, before, what, *ratios])
    head = ["date", "commit", "beside", "answers", "gateway CPU", "PostgreSQL CPU"]
    return table(head, rows)


def verdicts(newest: Mapping[str, Kept]) -> Lines:
    """Return a row for each target, with the newest figure beside it."""
    rows = []
    for target in targets.TARGETS:
        kept = newest[target.bench]
        worst = target.worst(kept)
        if worst is None:
            continue
        bound = f"{'at least ' if isinstance(target, Least) else ''}{target.bound:g}"
        aim = "" if target.aim is None else f", aim {target.aim:g}"
        word = "met" if target.is_met(worst.value) else "**missed**"
        run = f"{kept.run.at[:10]}, {kept.run.commit}"
        rows.append([target.words_of(worst), cell(worst), bound + aim, word, run])
    return table(["figure", "newest", "target", "", "run"], rows)


def conditions(newest: Mapping[str, Kept], count: Mapping[str, int]) -> Lines:
    """Return a row for each benchmark: its newest run's conditions, and how many runs there are."""
    rows = [
        [bench, str(count[bench]), kept.run.at, kept.run.commit, kept.run.machine, kept.run.load]
        for bench, kept in newest.items()
    ]
    return table(["benchmark", "runs", "newest, UTC", "commit", "machine", "load before"], rows)


TABLES: dict[str, Callable[[Kept], Lines]] = {
    "chat": chat,
    "peers": peers,
    "growth": growth,
    "inflight": inflight,
    "start": start,
    "ledger": ledger,
    "pair": pair,
}


def newest() -> dict[str, Kept]:
    """Return the newest run of each benchmark."""
    return {bench: record.runs(bench)[-1] for bench in TABLES}


def section(kept: Kept) -> str:
    """Return what a run prints at its end: conditions, table, and missed targets."""
    verdict = [f"- MISSED: {words}" for words in targets.missed(kept)]
    if not verdict and targets.of(kept.run.bench):
        verdict = ["All targets are met."]
    lines = [str(kept.run), kept.run.method, "", *TABLES[kept.run.bench](kept), "", *verdict]
    return "\n".join(lines)

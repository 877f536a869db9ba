"""Runs are appended to the data files, and the page's tables are those of the data files."""

import re
from pathlib import Path

from bench import page, record, tables, targets
from bench.record import DATA, Figure, Kept, Run

RUN = Run("chat", "2026-11-23 04:00", "abc1234", "2 x CPU", "0.1", "5 rounds, median.")
FIGURES = [
    Figure("0 ms, c=32", "cpu_ms", 1.46, 1.4, 1.87),
    Figure("", "statements", 3.0),
    Figure("messages", "page overview ratio", 1.02, 0.9, 1.1, size=10_000_000),
]


def test_what_is_appended_is_read_again_in_the_order_of_time(tmp_path: Path) -> None:
    earlier = Kept(Run("chat", "2026-11-22 04:00", "0000000", "2 x CPU", "", note="By hand."), [])
    for kept in (Kept(RUN, FIGURES), earlier):
        record.append(kept, tmp_path)
    assert record.runs("chat", tmp_path) == [earlier, Kept(RUN, FIGURES)]
    assert record.runs("peers", tmp_path) == []
    lines = (tmp_path / "chat.csv").read_text().splitlines()
    assert lines[0] == "at,commit,case,name,value,low,high,size"
    assert lines[1] == '2026-11-23 04:00,abc1234,"0 ms, c=32",cpu_ms,1.46,1.4,1.87,'


def test_every_figure_belongs_to_one_run() -> None:
    known = [(one["bench"], one["at"], one["commit"]) for one in record.lines(DATA / "runs.csv")]
    assert len(set(known)) == len(known)
    for path in DATA.glob("*.csv"):
        if path.stem != "runs":
            found = {(path.stem, one["at"], one["commit"]) for one in record.lines(path)}
            assert found <= set(known), path


def test_the_tables_of_the_page_are_those_of_the_data_files() -> None:
    text = page.PAGE.read_text()
    drawn = set(re.findall(r"<!-- drawn: (\w+) -->", text))
    assert drawn == {"targets", "conditions", "chat", "peers", "growth", "inflight", "pairs"}
    assert page.drawn(text) == text, "run `make figures`"


def test_every_target_is_measured_by_the_newest_run() -> None:
    newest = tables.newest()
    unmeasured = [one.words for one in targets.TARGETS if not one.worst(newest[one.bench])]
    assert unmeasured == []


def test_the_worst_of_several_figures_counts() -> None:
    figures = [Figure("messages", "page team ratio", 1.2, size=100), FIGURES[2]]
    kept = Kept(Run("growth", "", "", "", ""), figures)
    assert targets.missed(kept) == [
        "CPU of a page by all messages (team at 100 messages): 1.2, target 1.1"
    ]
    slow = Kept(Run("inflight", "", "", "", ""), [Figure("", "rate_of_ideal", 0.9)])
    assert targets.missed(slow) == ["2,000 chats at once: rate of ideal: 0.9, target 0.97"]

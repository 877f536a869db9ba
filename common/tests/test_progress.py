"""A progress bar on a terminal, and no output anywhere else."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from common.progress import draw, time_left, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_nothing() -> None:
    out = io.StringIO()
    assert list(track(range(3), total=3, label="x", stream=out)) == [0, 1, 2]
    assert out.getvalue() == ""


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1], total=1, label="x")) == [1]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_one_line_that_ends_full() -> None:
    out = Terminal()
    assert list(track("abc", total=3, label="rows", stream=out)) == ["a", "b", "c"]
    assert out.getvalue().endswith("\rrows [##############################] 100% 3\n")
    assert out.getvalue().count("\n") == 1


def test_a_line_is_drawn_at_most_ten_times_a_second() -> None:
    out = Terminal()
    assert sum(1 for _ in track(range(50_000), total=50_000, label="x", stream=out)) == 50_000
    assert out.getvalue().count("\r") < 50


def test_no_items_end_full_too() -> None:
    out = Terminal()
    assert list(track([], total=0, label="x", stream=out)) == []
    assert "100% 0" in out.getvalue()


def test_items_are_passed_on_one_by_one() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    tracked = track(source(), total=3, label="x", stream=Terminal())
    assert next(tracked) == 0
    assert taken == [0]


@pytest.mark.parametrize(
    ("count", "total", "line"),
    [
        (0, 4, "x [..............................]   0% 0"),
        (1, 2, "x [###############...............]  50% 1"),
        (12_345, 10_000, "x [##############################] 100% 12,345"),
    ],
)
def test_draws(count: int, total: int, line: str) -> None:
    assert draw(count, total, "x") == line


def test_an_item_may_weigh_more_than_another() -> None:
    out = Terminal()
    weighed = track([1, 9], total=10, label="rows", stream=out, weigh=lambda item: item)
    assert list(weighed) == [1, 9]
    assert out.getvalue().endswith("100% 10\n")


def test_the_time_left_follows_from_the_time_passed() -> None:
    assert time_left(1, 4, 10.0) == ", about 30 s left"
    assert time_left(1, 31, 10.0) == ", about 5 min left"


def test_nothing_is_estimated_too_soon_or_at_the_end() -> None:
    assert time_left(1, 4, 0.5) == time_left(0, 4, 9.0) == time_left(4, 4, 9.0) == ""

"""Differences: they lose and invent nothing, and mark the changed words."""

from __future__ import annotations

import random
import time

import pytest

from channels.diffs import DiffLine, diff_lines


def side(lines: list[DiffLine], sign: str) -> str:
    return "\n".join(
        "".join(t for t, _ in line.parts) for line in lines if line.sign in (" ", sign)
    )


def test_a_changed_word_is_marked_in_both_lines() -> None:
    removed, added = diff_lines("Be very brief.", "Be rather brief.")
    assert (removed.sign, added.sign) == ("-", "+")
    assert [text for text, changed in removed.parts if changed] == ["very"]
    assert [text for text, changed in added.parts if changed] == ["rather"]


@pytest.mark.parametrize(
    ("before", "after", "signs"),
    [
        ("", "", ""),
        ("", "a", "+"),
        ("a", "", "-"),
        ("a\nb", "a\nb", "  "),
        ("a\nc", "a\nb\nc", " + "),
    ],
)
def test_lines_are_added_removed_or_kept(before: str, after: str, signs: str) -> None:
    assert "".join(line.sign for line in diff_lines(before, after)) == signs


def test_both_texts_can_be_read_from_the_differences() -> None:
    chance = random.Random(3)
    words = ["Be", "brief", "kind,", "é", "<b>", "", "1.5"]
    for _ in range(300):
        before, after = (
            "\n".join(" ".join(chance.choices(words, k=4)) for _ in range(chance.randint(1, 6)))
            for _ in range(2)
        )
        lines = diff_lines(before, after)
        assert side(lines, "-") == "\n".join(before.splitlines())
        assert side(lines, "+") == "\n".join(after.splitlines())


@pytest.mark.parametrize("unit", ["a", "a b ", "a\n", "\n"])
def test_the_longest_prompts_are_compared_in_time(unit: str) -> None:
    began = time.thread_time()  # CPU time, so that other processes do not count
    diff_lines(unit * (16_000 // len(unit)), unit.upper() * (16_000 // len(unit)))
    assert time.thread_time() - began < 2

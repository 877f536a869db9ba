"""Charts: the same figures give the same file, however many labels there are."""

from pathlib import Path

import pytest

from bench import plot


@pytest.mark.parametrize(("count", "log"), [(1, False), (4, True), (90, False)])
def test_a_chart_is_the_same_each_time_it_is_drawn(tmp_path: Path, count: int, log: bool) -> None:
    line = [(10.0 ** (at % 5) + at, float(at)) for at in range(count)]
    labels = {x: f"{x:.0f}" for x, _ in line}
    for name in ("one.png", "two.png"):
        plot.write(tmp_path / name, "CPU ms", {"gateway": line}, labels, log=log)
    drawn = (tmp_path / "one.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert drawn == (tmp_path / "two.png").read_bytes()

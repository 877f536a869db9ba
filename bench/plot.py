"""Small line charts as SVG: drawn without a library, sharp at any size, told apart in a diff."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

Line = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 210, 34, 40
COLOURS = ("#1f6feb", "#bf3989", "#1a7f37", "#9a6700", "#8250df", "#cf222e", "#57606a", "#0a7ea4")


def write(
    path: Path, title: str, lines: Mapping[str, Line], labels: Mapping[float, str], *, log: bool
) -> None:
    """Write a chart whose values start at 0; `labels` stand under the axis, where x is."""
    path.write_text("\n".join(_svg(title, lines, labels, log=log)) + "\n")


def _svg(
    title: str, lines: Mapping[str, Line], labels: Mapping[float, str], *, log: bool
) -> Iterator[str]:
    scale: Callable[[float], float] = math.log10 if log else float
    xs = [scale(x) for x in labels]
    most = max(y for line in lines.values() for _, y in line) * 1.1 or 1.0

    def at_x(x: float) -> float:
        width = WIDTH - LEFT - RIGHT
        return LEFT + width * (scale(x) - min(xs)) / ((max(xs) - min(xs)) or 1)

    def at_y(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - y / most)

    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
    yield 'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    yield _text(LEFT, 18, title, "start")
    for step in range(5):
        y = most * step / 4
        yield f'<path d="M{LEFT} {at_y(y):.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
        yield _text(LEFT - 6, at_y(y) + 4, f"{y:.1f}", "end")
    for x, label in labels.items():
        yield _text(at_x(x), HEIGHT - 16, label, "middle")
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for point in points.split():
            x_of, _, y_of = point.partition(",")
            yield f'<circle cx="{x_of}" cy="{y_of}" r="3" fill="{colour}"/>'
        yield _text(WIDTH - RIGHT + 14, TOP + 18 * number + 8, name, "start", colour)
    yield "</svg>"


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#24292f") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(words)}</text>"

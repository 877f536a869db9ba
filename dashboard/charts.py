"""Charts as SVG, drawn by the server: no script, sharp at any size, light and dark by CSS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

_BAR, _GAP, _HEIGHT = 8, 3, 40


def sparkline(
    values: Sequence[int], *, label: str, most: int = 0, links: Sequence[str] = ()
) -> SafeString:
    """Return small bars. `most` fills the full height, so that charts can be compared.

    `label` describes them to screen readers. With `links`, each bar leads to its own.

    A day with no value still shows a hairline, so that the days can be counted.
    """
    most = max(most, *values, 1)
    heights = [max(1.0, round(value / most * _HEIGHT, 1)) for value in values]
    rects = (
        format_html(
            '<rect class="gw-bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
            index * (_BAR + _GAP),
            _HEIGHT - height,
            _BAR,
            height,
            f"{value:,}",
        )
        for index, (value, height) in enumerate(zip(values, heights, strict=True))
    )
    bars = format_html_join(
        "", "{}", ((_linked(rect, links, index),) for index, rect in enumerate(rects))
    )
    width = max(1, len(values) * (_BAR + _GAP) - _GAP)
    return format_html(
        '<svg class="gw-spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="{}" '
        'aria-label="{}">{}</svg>',
        width,
        _HEIGHT,
        _role(links),
        label,
        bars,
    )


def _linked(drawn: SafeString, links: Sequence[str], index: int) -> SafeString:
    """Return a mark that leads to its link. The keyboard skips it: tables have the same links."""
    if not links:
        return drawn
    return format_html('<a href="{}" tabindex="-1">{}</a>', links[index], drawn)


def _role(links: Sequence[str]) -> str:
    """Return the role of a chart: a picture contains no links."""
    return "group" if links else "img"


# --- Charts with axes ---------------------------------------------------------------------------

_WIDTH, _TALL = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 10, 26
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _TALL - _TOP - _BOTTOM
_MOST_LABELS = 8
_MOST_POINTS_MARKED = 62


@dataclass(frozen=True, slots=True)
class Series:
    """A row of values, None for a missing value. `css` is the class with its colour.

    With `links`, each value leads to its own.
    """

    name: str
    values: Sequence[float | None]
    css: str = "gw-series-1"
    links: Sequence[str] = ()


def bar_chart(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    title: str,
    show: Callable[[float], str] = "{:,.0f}".format,
) -> SafeString:
    """Return stacked bars of all series. Each shows its figures on hover."""
    stacks = list(zip(*(one.values for one in series), strict=True))
    most = max((sum(value or 0 for value in stack) for stack in stacks), default=0)
    axis = _Axis(most, is_whole=all(isinstance(value, int) for value in chain(*stacks)))
    step = _PLOT_WIDTH / max(1, len(labels))

    def bars() -> Iterator[tuple[SafeString]]:
        for index, stack in enumerate(stacks):
            below = 0.0
            for one, value in zip(series, stack, strict=True):
                if value:
                    top = axis.y(below + value)
                    height = round(axis.y(below) - top, 1)
                    bar = format_html(
                        '<rect class="gw-bar {}" x="{}" y="{}" width="{}" height="{}">'
                        "<title>{}</title></rect>",
                        one.css,
                        round(_LEFT + step * (index + 0.1), 1),
                        top,
                        round(max(0.5, step * 0.8), 1),
                        max(0.5, height),
                        _tooltip(labels[index], one.name, show(value)),
                    )
                    yield (_linked(bar, one.links, index),)
                    below += value

    drawn = format_html_join("", "{}", bars())
    role = _role(series[0].links)
    return _frame(labels, axis, drawn, title=title, show=show, role=role)


def line_chart(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    title: str,
    show: Callable[[float], str] = "{:,.0f}".format,
) -> SafeString:
    """Return a line for each series, with gaps where nothing was measured."""
    known = [value for one in series for value in one.values if value is not None]
    axis = _Axis(max(known, default=0), is_whole=all(isinstance(value, int) for value in known))
    step = _PLOT_WIDTH / max(1, len(labels))
    drawn = format_html_join(
        "",
        "{}{}",
        ((_line(one, axis, step), _points(labels, one, axis, step, show)) for one in series),
    )
    role = _role(series[0].links)
    return _frame(labels, axis, drawn, title=title, show=show, role=role)


def legend(series: Iterable[Series]) -> SafeString:
    """Return the names of the series beside their colours."""
    names = format_html_join("", '<span class="{}">{}</span>', ((s.css, s.name) for s in series))
    return format_html('<div class="gw-legend">{}</div>', names)


def _tooltip(label: str, name: str, value: str) -> str:
    return f"{label}: {name} {value}"


def _line(one: Series, axis: _Axis, step: float) -> SafeString:
    parts, is_gap = [], True
    for index, value in enumerate(one.values):
        if value is not None:
            command = "M" if is_gap else "L"
            parts.append(f"{command}{_x(index, step)} {axis.y(value)}")
        is_gap = value is None
    return format_html('<path class="gw-line {}" d="{}"/>', one.css, " ".join(parts))


def _points(
    labels: Sequence[str], one: Series, axis: _Axis, step: float, show: Callable[[float], str]
) -> SafeString:
    """Return points that show their figures on hover. Many points are drawn smaller."""
    radius = 3 if len(labels) <= _MOST_POINTS_MARKED else 1
    points = (
        (
            index,
            format_html(
                '<circle class="gw-point {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>',
                one.css,
                _x(index, step),
                axis.y(value),
                radius,
                _tooltip(labels[index], one.name, show(value)),
            ),
        )
        for index, value in enumerate(one.values)
        if value is not None
    )
    return format_html_join(
        "", "{}", ((_linked(point, one.links, index),) for index, point in points)
    )


def _x(index: int, step: float) -> float:
    return round(_LEFT + step * (index + 0.5), 1)


class _Axis:
    """A scale from 0 to a round number above the largest value."""

    def __init__(self, most: float, *, is_whole: bool = False) -> None:
        tick = _round_up(most / 4) if most > 0 else 1
        # There is no half request.
        self.tick = math.ceil(tick) if is_whole else tick
        self.count = max(1, -int(-most // self.tick))

    def y(self, value: float) -> float:
        share = value / (self.tick * self.count)
        return round(_TOP + _PLOT_HEIGHT * (1 - share), 1)


def _round_up(value: float) -> float:
    """Return the next number that is 1, 2, 2.5, or 5 times a power of ten."""
    power: float = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= value)


def _frame(
    labels: Sequence[str],
    axis: _Axis,
    drawn: SafeString,
    *,
    title: str,
    show: Callable[[float], str],
    role: str,
) -> SafeString:
    """Draw grid lines and axis labels around a chart."""
    lines = format_html_join(
        "",
        '<line class="gw-gridline" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text x="{}" y="{}" text-anchor="end">{}</text>',
        (
            (
                _LEFT,
                _WIDTH - _RIGHT,
                y,
                y,
                _LEFT - 6,
                y + 4,
                show(value) if value else "0",
            )
            for value in (axis.tick * number for number in range(axis.count + 1))
            for y in (axis.y(value),)
        ),
    )
    step = _PLOT_WIDTH / max(1, len(labels))
    every = -(-len(labels) // _MOST_LABELS) or 1
    names = format_html_join(
        "",
        '<text x="{}" y="{}" text-anchor="middle">{}</text>',
        (
            (_x(index, step), _TALL - 8, labels[index])
            for index in range(every // 2, len(labels), every)
        ),
    )
    return format_html(
        '<svg class="gw-chart" viewBox="0 0 {} {}" role="{}" aria-label="{}">{}{}{}</svg>',
        _WIDTH,
        _TALL,
        role,
        title,
        lines,
        drawn,
        names,
    )

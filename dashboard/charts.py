"""Charts as SVG, drawn by the server: no script, sharp at any size, light and dark by CSS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from common.pages.numbers import local_number

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

    def bars() -> Iterator[tuple[SafeString]]:
        for index, (value, height) in enumerate(zip(values, heights, strict=True)):
            bar = format_html(
                '<rect class="gw-bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title>'
                "</rect>",
                index * (_BAR + _GAP),
                _HEIGHT - height,
                _BAR,
                height,
                local_number(value),
            )
            yield (_link(bar, links[index], local_number(value)) if links else bar,)

    width = max(1, len(values) * (_BAR + _GAP) - _GAP)
    return format_html(
        '<svg class="gw-spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="{}" '
        'aria-label="{}">{}</svg>',
        width,
        _HEIGHT,
        # A picture contains no links.
        "group" if links else "img",
        label,
        format_html_join("", "{}", bars()),
    )


def week_sparkline(
    counts: Sequence[int], *, most: int = 0, links: Sequence[str] = ()
) -> SafeString:
    """Return the bars of a channel's answers on each of the last days, today last."""
    label = _("Answers per day over the last %(days)s days, ending today: %(counts)s") % {
        "days": len(counts),
        "counts": ", ".join(map(str, counts)),
    }
    return sparkline(counts, label=label, most=most, links=links)


def _link(drawn: SafeString, href: str, name: str) -> SafeString:
    """Return a mark that leads to a page. The keyboard skips it: tables have the same links."""
    return format_html('<a href="{}" tabindex="-1" aria-label="{}">{}</a>', href, name, drawn)


# --- Charts with axes ---------------------------------------------------------------------------

# Along the time, positions are per cent of the width; all other lengths are pixels. So a chart fits
# every screen, and its text keeps its size.
_TALL, _TOP, _BOTTOM = 200, 8, 26
_PLOT_HEIGHT = _TALL - _TOP - _BOTTOM
_AXIS_WIDTH = 56
_WIDEST_BAR, _BARS_WIDTH = 24, 260
_MOST_LABELS = 6
_MOST_POINTS_MARKED = 62

Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """A row of values, None for a missing value. `css` is the class with its colour.

    With `links`, each value leads to its own.
    """

    name: str
    values: Sequence[float | None]
    css: str = "gw-series-1"
    links: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """The hours or days of a chart. With `links`, each leads to its own.

    `is_running` says that the last one is not over.
    """

    labels: Sequence[str]
    links: Sequence[str] = ()
    is_running: bool = False

    def is_so_far(self, index: int) -> bool:
        return self.is_running and index == len(self.labels) - 1

    def words(self, index: int) -> str:
        label = self.labels[index]
        return _("%(time)s, so far") % {"time": label} if self.is_so_far(index) else label

    def middle(self, index: int) -> str:
        return f"{(index + 0.5) / len(self.labels):.2%}"


def show_whole(value: float) -> str:
    """Return a figure without decimals."""
    return local_number(round(value))


def bar_chart(
    times: Times, series: Sequence[Series], *, title: str, show: Show = show_whole
) -> SafeString:
    """Return stacked bars of all series. Each time shows its figures on hover."""
    stacks = [[one.values[index] for one in series] for index in range(len(times.labels))]
    most = max((sum(value or 0 for value in stack) for stack in stacks), default=0)
    axis = _Axis(most, is_whole=all(isinstance(value, int) for value in chain(*stacks)))
    width = max(1, min(_WIDEST_BAR, _BARS_WIDTH // max(1, len(stacks))))

    def bars(index: int) -> Iterator[SafeString]:
        below = 0.0
        for one, value in zip(series, stacks[index], strict=True):
            if not value:
                continue
            top = axis.y(below + value)
            bar = format_html(
                '<rect class="gw-bar {}" x="{}" y="{}" width="{}" height="{}" rx="2"/>',
                one.css,
                -width / 2,
                top,
                width,
                max(0.5, round(axis.y(below) - top, 1)),
            )
            yield _leading(bar, one, index, times, show)
            below += value

    return _frame(times, series, axis, bars, "", title=title, show=show, tells=bool)


def line_chart(
    times: Times, series: Sequence[Series], *, title: str, show: Show = show_whole
) -> SafeString:
    """Return a line for each series, with gaps where nothing was measured."""
    known = [value for one in series for value in one.values if value is not None]
    axis = _Axis(max(known, default=0), is_whole=all(isinstance(value, int) for value in known))
    # Many points are drawn smaller.
    radius = 3 if len(times.labels) <= _MOST_POINTS_MARKED else 1

    def points(index: int) -> Iterator[SafeString]:
        for one in series:
            value = one.values[index]
            if value is not None:
                css, y = one.css, axis.y(value)
                point = format_html('<circle class="gw-point {}" cy="{}" r="{}"/>', css, y, radius)
                yield _leading(point, one, index, times, show)

    lines = _lines(times, series, axis)
    return _frame(times, series, axis, points, lines, title=title, show=show, tells=_is_known)


def _is_known(value: float | None) -> bool:
    return value is not None


def legend(series: Iterable[Series]) -> SafeString:
    """Return the names of the series beside their colours."""
    names = format_html_join("", '<span class="{}">{}</span>', ((s.css, s.name) for s in series))
    return format_html('<div class="gw-legend">{}</div>', names)


def _lines(times: Times, series: Sequence[Series], axis: _Axis) -> SafeString:
    """Return the lines between neighbouring values. One to a time that is not over is dashed."""
    return format_html_join(
        "",
        '<line class="gw-line {}{}" x1="{}" y1="{}" x2="{}" y2="{}"/>',
        (
            (
                one.css,
                " gw-so-far" if times.is_so_far(index) else "",
                times.middle(index - 1),
                axis.y(before),
                times.middle(index),
                axis.y(value),
            )
            for one in series
            for index in range(1, len(one.values))
            if (before := one.values[index - 1]) is not None
            and (value := one.values[index]) is not None
        ),
    )


def _leading(drawn: SafeString, one: Series, index: int, times: Times, show: Show) -> SafeString:
    """Return a mark that leads to the link of its value, if there is one."""
    if not one.links:
        return drawn
    name = f"{times.words(index)}: {_said(one, index, show)}"
    return _link(drawn, one.links[index], name)


def _said(one: Series, index: int, show: Show, *, gap: str = " ") -> str:
    return f"{one.name}{gap}{show(one.values[index] or 0)}"


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
    times: Times,
    series: Sequence[Series],
    axis: _Axis,
    marks: Callable[[int], Iterator[SafeString]],
    lines: str,
    *,
    title: str,
    show: Show,
    tells: Callable[[float | None], bool],
) -> SafeString:
    """Draw the axes of a chart, and a column for each time: what it says, its link, its marks.

    A column says the values that `tells` is true of.
    """
    told = [[one for one in series if tells(one.values[at])] for at in range(len(times.labels))]
    count = len(times.labels)
    ticks = [axis.tick * number for number in range(axis.count + 1)]
    scale = format_html_join(
        "",
        '<text x="{}" y="{}" text-anchor="end">{}</text>',
        ((_AXIS_WIDTH - 8, axis.y(tick) + 4, show(tick) if tick else "0") for tick in ticks),
    )
    grid = format_html_join(
        "",
        '<line class="gw-gridline" x1="0" x2="100%" y1="{}" y2="{}"/>',
        ((axis.y(tick), axis.y(tick)) for tick in ticks),
    )
    # Counted from the last, so that today always has its label.
    named = range(count - 1, -1, -(-(-count // _MOST_LABELS) or 1))
    labels = format_html_join(
        "",
        '<text x="{}" y="{}" text-anchor="middle">{}</text>',
        ((times.middle(index), _TALL - 8, times.labels[index]) for index in named),
    )
    columns = format_html_join(
        "",
        '<g class="gw-column{}" data-series="{}"><title>{}</title>{}'
        '<svg x="{}" overflow="visible">{}</svg></g>',
        (
            (
                " gw-so-far" if times.is_so_far(index) else "",
                " ".join(one.css for one in told[index]),
                _told(times, told[index], index, show),
                _column(times, index),
                times.middle(index),
                format_html_join("", "{}", ((mark,) for mark in marks(index))),
            )
            for index in range(count)
        ),
    )
    return format_html(
        '<div class="gw-chart" tabindex="0" role="group" aria-label="{}">'
        '<svg class="gw-chart-scale" width="{}" height="{}" aria-hidden="true">{}</svg>'
        '<svg class="gw-chart-plot" height="{}">{}{}{}{}</svg></div>',
        title,
        _AXIS_WIDTH,
        _TALL,
        scale,
        _TALL,
        grid,
        lines,
        columns,
        labels,
    )


def _told(times: Times, series: Sequence[Series], index: int, show: Show) -> str:
    """Return what a time says: itself, then each name and value, one a line (charts.js)."""
    lines = (_said(one, index, show, gap="\t") for one in series)
    return "\n".join([times.words(index), *lines])


def _column(times: Times, index: int) -> SafeString:
    """Return the area of a time, which reacts to the pointer."""
    count = len(times.labels)
    area = format_html(
        '<rect class="gw-column-area" x="{}" width="{}" height="{}"/>',
        f"{index / count:.2%}",
        f"{1 / count:.2%}",
        _TALL - _BOTTOM,
    )
    if not times.links:
        return area
    name = _("%(time)s: all requests") % {"time": times.words(index)}
    return _link(area, times.links[index], name)

"""Small line charts as PNG. Imports matplotlib only to draw: no measurement waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = Sequence[tuple[float, float]]

INCHES, DOTS_AN_INCH = (8.0, 3.6), 120
# What fits under the axis: characters in a row, or labels turned upright.
ROW_CHARACTERS, MOST_LABELS = 60, 40


def write(
    path: Path, title: str, lines: Mapping[str, Line], labels: Mapping[float, str], *, log: bool
) -> None:
    """Write a chart whose values start at 0. `labels` go under the axis, by their x.

    The same figures give the same bytes, so that a commit shows whether a chart has changed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # A developer's own style would change the picture.
    with mpl.rc_context():
        mpl.rcdefaults()
        figure = Figure(figsize=INCHES, dpi=DOTS_AN_INCH, layout="constrained")
        axes = figure.add_subplot()
        for name, line in lines.items():
            axes.plot([x for x, _ in line], [y for _, y in line], marker="o", ms=4, label=name)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_ylim(0, 1.1 * max(y for line in lines.values() for _, y in line) or 1)
        axes.grid(axis="y", color="#d0d7de")
        axes.spines[["top", "right"]].set_visible(False)
        if log:
            axes.set_xscale("log")
        _label(axes, labels)
        figure.legend(loc="outside right upper", frameon=False)
        # Without the library's version and the date.
        figure.savefig(path, metadata={"Software": None})


def _label(axes: Axes, labels: Mapping[float, str]) -> None:
    """Put the labels under the axis: upright if they would touch, and only as many as fit."""
    step = -(-len(labels) // MOST_LABELS)
    # Counted from the last one, which is the newest.
    shown = dict(list(labels.items())[::-1][::step])
    is_on_end = sum(len(label) + 2 for label in shown.values()) > ROW_CHARACTERS
    axes.set_xticks(list(shown), list(shown.values()), rotation=90 if is_on_end else 0, fontsize=8)
    axes.minorticks_off()

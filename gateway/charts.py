"""Charts as SVG drawn by the server: no script, sharp at any size, light and dark by CSS."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

_BAR, _GAP, _HEIGHT = 8, 3, 40


def sparkline(values: Sequence[int], *, label: str) -> SafeString:
    """Return small bars, the tallest as high as the drawing; `label` says them to screen readers.

    A day without anything still shows a hairline, so that the days can be counted.
    """
    most = max(values, default=0) or 1
    heights = [max(1.0, round(value / most * _HEIGHT, 1)) for value in values]
    bars = format_html_join(
        "",
        '<rect class="gw-bar" x="{}" y="{}" width="{}" height="{}"/>',
        (
            (index * (_BAR + _GAP), _HEIGHT - height, _BAR, height)
            for index, height in enumerate(heights)
        ),
    )
    width = max(1, len(values) * (_BAR + _GAP) - _GAP)
    return format_html(
        '<svg class="gw-spark" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>',
        width,
        _HEIGHT,
        label,
        bars,
    )

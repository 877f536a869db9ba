"""How long something took, in words: {% load durations %}."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def milliseconds(count: int) -> str:
    """Return whole milliseconds; what took none of them took some of one."""
    return f"{count:,} ms" if count else "under 1 ms"

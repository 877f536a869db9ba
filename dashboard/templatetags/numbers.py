"""Numbers in templates: {{ tokens|short }}, and the pages of a list in {{ page|page_numbers }}."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from common.pages.numbers import local_number, short_number

register = template.Library()


@register.filter
def short(number: int) -> SafeString:
    """Return a number in about three digits. Its title has all of them."""
    return format_html('<span title="{}">{}</span>', local_number(number), short_number(number))


@register.filter
def page_numbers(page: Any) -> list[int | None]:
    """Return the numbers to link to: the first, the last, and those near the page. None is a gap.

    A page that does not know how many there are has none.
    """
    if not getattr(page, "paginator", None):
        return []
    numbers = page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1)
    return [number if isinstance(number, int) else None for number in numbers]

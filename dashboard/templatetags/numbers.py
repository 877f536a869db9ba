"""{{ tokens|short }} in templates: few characters, the whole number on hover."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from common.pages.numbers import short_number

register = template.Library()


@register.filter
def short(number: int) -> SafeString:
    """Return a number in about three digits. Its title has all of them."""
    return format_html('<span title="{}">{}</span>', f"{number:,}", short_number(number))

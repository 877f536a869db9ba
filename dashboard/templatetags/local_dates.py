"""Django's `date` filter, by language. It is built into every template (settings.TEMPLATES)."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import defaultfilters

from common.pages import dates

register = template.Library()


@register.filter(expects_localtime=True, is_safe=False)
def date(value: Any, form: str | None = None) -> str:
    """Return a date or time in a format of common/pages/dates.py."""
    return str(defaultfilters.date(value, dates.local_format(form) if form else form))

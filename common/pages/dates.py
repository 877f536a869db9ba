"""Dates as the active language writes them."""

from __future__ import annotations

from datetime import date

from django.utils.dateformat import format as format_date
from django.utils.translation import pgettext_lazy

# Each format that pages use, in Django's letters. A catalogue says how its language writes it.
_FORMATS = {
    "j M Y": pgettext_lazy("date format", "j M Y"),
    "j F Y": pgettext_lazy("date format", "j F Y"),
    "D j M Y": pgettext_lazy("date format", "D j M Y"),
    "D j M": pgettext_lazy("date format", "D j M"),
    "j M": pgettext_lazy("date format", "j M"),
    "j F": pgettext_lazy("date format", "j F"),
    "F Y": pgettext_lazy("date format", "F Y"),
    "j M, H:i": pgettext_lazy("date format", "j M, H:i"),
    "j M, H:i:s": pgettext_lazy("date format", "j M, H:i:s"),
    "j M Y, H:i": pgettext_lazy("date format", "j M Y, H:i"),
    "j M Y, H:i:s": pgettext_lazy("date format", "j M Y, H:i:s"),
    "j F Y, H:i": pgettext_lazy("date format", "j F Y, H:i"),
}


def local_format(form: str) -> str:
    """Return the format in the active language's order. Other formats, such as 'c', stay."""
    return str(_FORMATS.get(form, form))


def show(moment: date, form: str) -> str:
    """Return a day or a moment in the active language: `show(day, "j M Y")`."""
    return format_date(moment, local_format(form))

"""Durations and times in words: {% load durations %}."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from common.pages import dates, durations
from common.pages.durations import duration

register = template.Library()
register.filter(duration)


@register.filter
def ago_words(moment: datetime) -> str:
    """Return how long ago a moment was, without its exact time."""
    return durations.ago(timezone.localtime(moment), timezone.now())


@register.filter
def ago(moment: datetime) -> SafeString:
    """Return how long ago a moment was. Its title has the exact time, in the page's time zone."""
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        f"{dates.show(local, 'j M Y, H:i:s')} {local:%Z}",
        durations.ago(local, timezone.now()),
    )

"""Durations in words: {% load durations %}."""

from __future__ import annotations

from django import template

from common.pages.durations import duration

register = template.Library()
register.filter(duration)

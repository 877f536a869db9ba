"""Words beside the figures of usage: how they changed, and the names of hours and days."""

from __future__ import annotations

from datetime import datetime

from common.days import zone_of
from conversations.usage.reports import Line, Scope


def changes_of(now: Line, before: Line) -> dict[str, str]:
    """Say how each figure changed against the period before, or '' if nothing was there."""
    return {
        "requests": change_words(now.request_count, before.request_count),
        "credits": change_words(now.charged_microcredits, before.charged_microcredits),
        "tokens": change_words(now.token_count, before.token_count),
        "latency": change_words(now.p50_ms or 0, before.p50_ms or 0),
        "errors": f"{before.error_percent} before" if before.request_count else "",
    }


def change_words(now: int, before: int) -> str:
    """Say how a figure changed: in per cent, or how many times as large it is."""
    if not before:
        return ""
    per_cent = round((now - before) * 100 / before)
    if not per_cent:
        return "as before"
    # Beyond ten times as much, per cent say little.
    if now >= 10 * before:
        return f"{now / before:,.0f} times as before"
    return f"{per_cent:+d} %".replace("-", "\N{MINUS SIGN}")


def words_of_period_before(scope: Scope, now: datetime) -> str:
    """Name the period that the figures are compared with."""
    if scope.is_by_hour:
        return "the 24 hours before"
    days = len(scope.times())
    name = f"the {days} days before" if days > 1 else "the day before"
    return f"{name}, up to the same time" if now < scope.ends_at else name


def label_of(scope: Scope, line: Line) -> str:
    """Return the short name of an hour or a day of a scope."""
    local = line.key.astimezone(zone_of(scope.zone))
    return f"{local:%H:%M}" if scope.is_by_hour else f"{local.day} {local:%b}"

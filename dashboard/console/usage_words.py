"""Words beside the figures of usage: how they changed, and the names of hours and days."""

from __future__ import annotations

from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from common.days import zone_of
from common.pages import dates
from common.pages.numbers import local_number, with_unit
from conversations.usage.reports import Line, Scope


def changes_of(now: Line, before: Line) -> dict[str, str]:
    """Say how each figure changed against the period before, or '' if nothing was there."""
    return {
        "requests": change_words(now.request_count, before.request_count),
        "credits": change_words(now.charged_microcredits, before.charged_microcredits),
        "tokens": change_words(now.token_count, before.token_count),
        "latency": change_words(now.p50_ms or 0, before.p50_ms or 0),
        "errors": _("%(percent)s before") % {"percent": before.error_percent}
        if before.request_count
        else "",
    }


def change_words(now: int, before: int) -> str:
    """Say how a figure changed: in per cent, or how many times as large it is."""
    if not before:
        return ""
    per_cent = round((now - before) * 100 / before)
    if not per_cent:
        return _("as before")
    # Beyond ten times as much, per cent say little.
    if now >= 10 * before:
        return _("%(count)s times as before") % {"count": local_number(round(now / before))}
    return with_unit(f"{per_cent:+d}".replace("-", "\N{MINUS SIGN}"), "%")


def words_of_period_before(scope: Scope, now: datetime) -> str:
    """Name the period that the figures are compared with."""
    if scope.is_by_hour:
        return _("the 24 hours before")
    days = len(scope.times())
    if now < scope.ends_at:
        return ngettext(
            "the day before, up to the same time",
            "the %(days)s days before, up to the same time",
            days,
        ) % {"days": days}
    return ngettext("the day before", "the %(days)s days before", days) % {"days": days}


def label_of(scope: Scope, line: Line) -> str:
    """Return the short name of an hour or a day of a scope."""
    local = line.key.astimezone(zone_of(scope.zone))
    return f"{local:%H:%M}" if scope.is_by_hour else dates.show(local, "j M")


def chart_titles(scope: Scope) -> dict[str, str]:
    """Return what the charts of requests, credits and latency say to screen readers."""
    return _titles_by_hour(scope.zone) if scope.is_by_hour else _titles_by_day(scope.zone)


def _titles_by_hour(zone: str) -> dict[str, str]:
    named = {"zone": zone}
    return {
        "requests": _(
            "Requests by model, and errors, by hour (%(zone)s); the table below has the figures"
        )
        % named,
        "credits": _("Credits charged by model by hour (%(zone)s); the table below has the figures")
        % named,
        "latency": _("Time to answer by hour (%(zone)s); the table below has the figures") % named,
    }


def _titles_by_day(zone: str) -> dict[str, str]:
    named = {"zone": zone}
    return {
        "requests": _(
            "Requests by model, and errors, by day (%(zone)s); the table below has the figures"
        )
        % named,
        "credits": _("Credits charged by model by day (%(zone)s); the table below has the figures")
        % named,
        "latency": _("Time to answer by day (%(zone)s); the table below has the figures") % named,
    }

"""How long an account's credits last, in words."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from billing.balance import Balance, Runway
from common.days import RECENT_DAYS, UTC_NAME, day_of
from common.pages import dates

# A day that is further ahead moves with every hour that passes, so its month says enough; what is
# even further ahead is no forecast.
_SURE, _MOST = timedelta(days=90), timedelta(days=2 * 365)


def runway_words(balance: Balance, runway: Runway, now: datetime, zone: str = UTC_NAME) -> str:
    """Say in a sentence how long the credits last."""
    return _lasting(balance, runway, now, zone)[0]


def short_words(balance: Balance, runway: Runway, now: datetime, zone: str = UTC_NAME) -> str:
    """Say the same in a few words."""
    return _lasting(balance, runway, now, zone)[1]


def _lasting(balance: Balance, runway: Runway, now: datetime, zone: str) -> tuple[str, str]:
    if not balance.entry_count:
        return _("No credits have been granted yet."), _("None granted yet")
    if balance.is_exhausted:
        return (
            _("Used up: channels answer “credits_exhausted” until credits are added."),
            _("Used up"),
        )
    if not runway.spent_microcredits:
        days = {"days": RECENT_DAYS}
        return (
            _("Nothing was spent in the last %(days)s days.") % days,
            _("No use in %(days)s days") % days,
        )
    pace, today = pace_words(runway), day_of(now, zone)
    if runway.until is None or runway.until - today > _MOST:
        return (
            _("Lasts for more than two years at %(pace)s.") % {"pace": pace},
            _("Lasts for years"),
        )
    if runway.until == today:
        return (
            _("Lasts until later today at %(pace)s.") % {"pace": pace},
            _("Lasts until later today"),
        )
    if runway.until - today > _SURE:
        long, short = "F Y", "M Y"
    else:
        long, short = ("j F", "j M") if runway.until.year == today.year else ("j F Y", "j M Y")
    return (
        _("Lasts until about %(day)s at %(pace)s.")
        % {"day": dates.show(runway.until, long), "pace": pace},
        _("Lasts until %(day)s") % {"day": dates.show(runway.until, short)},
    )


def pace_words(runway: Runway) -> str:
    """Name the period that the pace was measured in."""
    if runway.is_whole:
        return _("the pace of the last %(days)s days") % {"days": RECENT_DAYS}
    hours = max(1, round(runway.span / timedelta(hours=1)))
    if hours >= 48:
        return _("the pace of the last %(days)s days") % {"days": round(hours / 24)}
    return ngettext("the pace of the last hour", "the pace of the last %(hours)s hours", hours) % {
        "hours": hours
    }


def first_end(balance: Balance, runway: Runway, zone: str) -> datetime | None:
    """Return when the first credits expire, if that is before they are spent."""
    end = balance.next_expiry_at
    if end is None or balance.available <= 0:
        return None
    return end if runway.until is None or day_of(end, zone) < runway.until else None

"""How long something took, and how long ago it was, in words, the same on every page."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from common.pages import dates
from common.pages.numbers import in_local_signs, with_unit

# Up to here a time is given as so many minutes, hours or days ago, and later by its date.
_DAYS_IN_WORDS = timedelta(days=7)


def duration(milliseconds: float) -> str:
    """Return a time in three digits: '845 ms', below a second; '1.25 s', '12.5 s' and '1,250 s'.

    Anything below a whole millisecond counts as a part of one. dashboard.js does the same.
    """
    ms = round(milliseconds)
    if not ms:
        return _("under %(figure)s") % {"figure": with_unit("1", "ms")}
    if ms < 1_000:
        return with_unit(str(ms), "ms")
    decimals = 2 if ms < 10_000 else 1 if ms < 100_000 else 0
    seconds = f"{ms / 1000:,.{decimals}f}"
    seconds = seconds.rstrip("0").rstrip(".") if decimals else seconds
    return with_unit(in_local_signs(seconds), "s")


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago it was: 'just now', '5 min ago', '3 h ago', '2 days ago', then its day.

    The day is that of the moment's own time zone. Clocks differ a little, so the future is now.
    """
    passed = now - moment
    if passed >= _DAYS_IN_WORDS:
        return dates.show(moment, "j M Y")
    minutes = passed // timedelta(minutes=1)
    if minutes < 1:
        return _("just now")
    if minutes < 60:
        return _("%(minutes)s min ago") % {"minutes": minutes}
    if minutes < 24 * 60:
        return _("%(hours)s h ago") % {"hours": minutes // 60}
    days = minutes // (24 * 60)
    return ngettext("%(days)s day ago", "%(days)s days ago", days) % {"days": days}

"""E-mail alerts when 50, 80, and 100 % of a spend cap are used up. A periodic task sends them."""

from __future__ import annotations

import logging
from datetime import datetime

from django.core.mail import send_mail
from django.db.models import Q
from django.utils.translation import gettext as _

from billing import spend_caps
from billing.models import SpendCap
from billing.spend_caps import Spending
from channels.models import Membership
from common import languages
from common.days import moment_words
from common.pages.numbers import local_credits
from common.text import one_line

logger = logging.getLogger("gateway.billing")

LEVELS = (50, 80, 100)


def alert_of_spend_caps(*, now: datetime) -> int:
    """Send each due alert once in its day or month. Returns how many were sent."""
    return sum(
        _alert(cap, spending)
        for cap in _caps_due()
        for spending in spend_caps.list_spending(
            cap, calendar=cap.channel.account.calendar, now=now
        )
    )


def _caps_due() -> list[SpendCap]:
    """Return the caps that are at least half used up and whose owners do not know it all yet."""
    due = Q()
    for name in ("day", "month"):
        due |= spend_caps.half_used(name) & Q(**{f"{name}_alerted__lt": LEVELS[-1]})
    return list(SpendCap.objects.filter(due).select_related("channel__account", "key"))


def _alert(cap: SpendCap, spending: Spending) -> bool:
    """Mark the highest level as reported, and send the e-mail. If that fails, unmark it."""
    told = f"{spending.period}_alerted"
    level = max((each for each in LEVELS if spending.percent >= each), default=0)
    # Nobody needs to hear that a cap of 0 is reached.
    if level <= getattr(cap, told) or not spending.limit_microcredits:
        return False
    # Of two tasks at once only one changes the row, and only that one sends.
    row = SpendCap.objects.filter(id=cap.id, day=cap.day, month=cap.month)
    if not row.filter(**{f"{told}__lt": level}).update(**{told: level}):
        return False
    channel = cap.channel
    owners = Membership.objects.filter(account=channel.account, role=Membership.Role.OWNER)
    people = owners.values_list("user__email", "user__language")
    try:
        for language, addresses in languages.group_by_language(people).items():
            with languages.speaking(language):
                send_mail(_subject(cap, level), _text(cap, spending, level), None, addresses)
    except OSError as error:
        # The mail server is down; the next run tries again.
        row.filter(**{told: level}).update(**{told: getattr(cap, told)})
        logger.warning("billing.spend_cap_alert.not_sent", extra={"reason": str(error)})
        return False
    fields = {"channel": str(channel.id), "level": level, "period": spending.period}
    logger.info("billing.spend_cap_alert.sent", extra=fields)
    return True


def _subject(cap: SpendCap, level: int) -> str:
    text = _("%(level)s %% of a spend cap is used up: %(channel)s")
    return one_line(text % {"level": level, "channel": cap.channel.name})


def _text(cap: SpendCap, spending: Spending, level: int) -> str:
    named = {
        "key": cap.key.masked if cap.key else "",
        "channel": one_line(cap.channel.name),
        "used": local_credits(spending.used_microcredits),
        "limit": local_credits(spending.limit_microcredits or 0),
        "time": moment_words(spending.resets_at, cap.channel.account.time_zone),
    }
    if spending.period == "day":
        ends = _("The day ends at %(time)s.")
        spent = (
            _(
                "The key %(key)s of the channel “%(channel)s” has spent %(used)s of its "
                "%(limit)s credits a day."
            )
            if cap.key
            else _("The channel “%(channel)s” has spent %(used)s of its %(limit)s credits a day.")
        )
    else:
        ends = _("The month ends at %(time)s.")
        spent = (
            _(
                "The key %(key)s of the channel “%(channel)s” has spent %(used)s of its "
                "%(limit)s credits a month."
            )
            if cap.key
            else _("The channel “%(channel)s” has spent %(used)s of its %(limit)s credits a month.")
        )
    afterwards = (
        _("It answers “spend_cap_reached” until then.")
        if level == LEVELS[-1]
        else _("At 100 %, it answers “spend_cap_reached” until then.")
    )
    what_to_do = _("Raise the cap in the dashboard: the channel's page, Spend caps.")
    return f"{spent % named} {ends % named} {afterwards}\n\n{what_to_do}"

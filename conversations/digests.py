"""The daily digest for owners who chose it: an account's yesterday, in the account's own days.

A periodic task writes the lines of each e-mail in the transaction that records its day, so each
owner gets each day at most once, however many workers run. person_mails.py sends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import attrgetter

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from billing import spend_caps
from billing.balance import Balance, get_balance
from billing.models import SpendCap
from billing.spend_caps import Spending
from channels import model_ends, person_mails
from channels.models import Account, Channel, Membership
from common import languages
from common.days import ONE_DAY, UTC_NAME, day_of, end_of, start_of
from common.pages.numbers import local_credits, local_number
from conversations.usage import reports
from conversations.usage.reports import Scope
from conversations.usage.rows import cover_account

# A worker writes a day's digest this long after its end: in the morning, with all hours added up.
TOLD_AFTER = timedelta(hours=6)
# Spend caps that a digest names.
MOST_CAPS = 5
# Caps below this do not need attention yet.
LEAST_PERCENT = 80


def write_digests(*, now: datetime) -> int:
    """Write the digests that are due. Returns how many.

    A day that no worker told before the next one was due is left out.
    """
    owners = Membership.objects.filter(
        # No zone's yesterday is later than the UTC day, so those who know that one need no look.
        Q(digest_day=None) | ~Q(digest_day=day_of(now)),
        role=Membership.Role.OWNER,
        user__is_active=True,
        user__mails_digests=True,
        account__deleted_at=None,
    )
    found = owners.select_related("user", "account").order_by("account_id", "id")
    count = 0
    for _account, group in groupby(found, key=attrgetter("account_id")):
        members = list(group)
        day = _day_due(members[0].account, now)
        due = [one for one in members if _is_untold(one.digest_day, day)]
        if due:
            count += sum(_write_in_languages(due, members[0].account, day, now))
    return count


def _write_in_languages(
    due: Iterable[Membership], account: Account, day: date, now: datetime
) -> Iterator[bool]:
    written: dict[str, list[str]] = {}
    for member in due:
        language = languages.known(member.user.language)
        if language not in written:
            with languages.speaking(language):
                written[language] = list(_lines(account, day, now))
        yield _write(member, day, written[language])


# A change of zone takes yesterday back by this at most. A later day is of a clock that ran ahead.
_MOST_BACK = 2 * ONE_DAY


def _is_untold(told: date | None, day: date) -> bool:
    return told is None or told < day or told > day + _MOST_BACK


def _day_due(account: Account, now: datetime) -> date:
    """Return the latest day of an account whose digest is due."""
    today = day_of(now, account.time_zone)
    is_morning = now >= start_of(today, account.time_zone) + TOLD_AFTER
    return today - ONE_DAY if is_morning else today - 2 * ONE_DAY


@transaction.atomic
def _write(member: Membership, day: date, lines: list[str]) -> bool:
    # Of two tasks at once, only one changes the row from what both have read.
    row = Membership.objects.filter(id=member.id, digest_day=member.digest_day)
    if not row.update(digest_day=day):
        return False
    person_mails.add_digest(user=member.user, account_id=member.account_id, lines=lines)
    return True


# --- What it says -------------------------------------------------------------------------------


def _lines(account: Account, day: date, now: datetime) -> Iterator[str]:
    zone = account.time_zone
    scope = Scope(account.id, start_of(day, zone), end_of(day, zone), zone=zone)
    coverage = cover_account(account.id)
    total = reports.get_report(scope, coverage, by_channel=False).total
    shown = model_ends.show_day(day)
    if zone != UTC_NAME:
        shown = _("%(day)s in %(zone)s") % {"day": shown, "zone": zone}
    yield _(
        "%(day)s: requests %(requests)s, errors %(errors)s (%(share)s), credits charged %(spent)s"
    ) % {
        "day": shown,
        "requests": local_number(total.request_count),
        "errors": local_number(total.error_count),
        "share": total.error_percent,
        "spent": total.credits,
    }
    balance = get_balance(account_id=account.id, now=now)
    yield _("Balance now: %(credits)s credits available") % {
        "credits": local_credits(balance.available)
    }
    attention = list(_attention(account, balance, now))
    yield from (_("Needs attention: %(what)s") % {"what": words} for words in attention)
    if not attention:
        yield _("Nothing needs attention")


def _attention(account: Account, balance: Balance, now: datetime) -> Iterator[str]:
    """Yield what the account's overview names too."""
    if not account.is_enabled:
        yield _("the account is disabled, and its channels do not answer")
    if balance.entry_count and balance.is_exhausted:
        yield _("credits are used up, and channels answer “credits_exhausted”")
    elif balance.is_low:
        yield _("credits are below your warning threshold of %(credits)s") % {
            "credits": local_credits(balance.low_balance)
        }
    caps = spend_caps.list_half_used(account_id=account.id, now=now)
    for cap, spending in caps[:MOST_CAPS]:
        if spending.percent >= LEAST_PERCENT:
            yield _words_of_cap(cap, spending)
    announced = now.date() + model_ends.NOTICE
    ending = Q(model__ends_on__lte=announced) | Q(fallback_model__ends_on__lte=announced)
    channels = Channel.objects.filter(account=account)
    if count := channels.filter(ending).count():
        yield _("channels with a model that retires soon or has retired: %(count)s") % {
            "count": local_number(count)
        }
    if count := channels.filter(is_enabled=False).count():
        yield _("channels that are switched off: %(count)s") % {"count": local_number(count)}


def _words_of_cap(cap: SpendCap, spending: Spending) -> str:
    named = {"percent": spending.percent, "channel": cap.channel.name}
    if cap.key is None:
        if spending.period == "day":
            text = _("%(percent)s %% of this day's spend cap is used up: %(channel)s")
        else:
            text = _("%(percent)s %% of this month's spend cap is used up: %(channel)s")
        return text % named
    if spending.period == "day":
        text = _("%(percent)s %% of this day's spend cap is used up: key %(key)s of %(channel)s")
    else:
        text = _("%(percent)s %% of this month's spend cap is used up: key %(key)s of %(channel)s")
    return text % (named | {"key": cap.key.masked})

"""E-mails that people choose: about new keys, members and devices, outages, and a daily digest.

The change itself writes a line for each person, in its own transaction. A periodic task sends what
is waiting: one e-mail for all lines of the same kind, person and account.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import groupby

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import daily_counts
from channels.audit import Actor
from channels.models import Account, Membership, PersonMail, User
from common import languages
from common.pages import dates
from common.text import one_line

logger = logging.getLogger("gateway.channels")

Kind = PersonMail.Kind
# A role inside a sentence.
ROLES = {
    str(Membership.Role.OWNER): gettext_lazy("owner"),
    str(Membership.Role.EDITOR): gettext_lazy("editor"),
    str(Membership.Role.VIEWER): gettext_lazy("viewer"),
}
# The person's own choice, by kind of e-mail.
CHOICES = {
    Kind.NEW_KEY: "mails_new_keys",
    Kind.NEW_MEMBER: "mails_new_members",
    Kind.NEW_DEVICE: "mails_new_devices",
    Kind.OUTAGE: "mails_outages",
    Kind.RECOVERY: "mails_outages",
    Kind.DIGEST: "mails_digests",
}
# The staff's permission to see what an e-mail about an outage says.
SEES_OUTAGES = "channels.view_routehealth"
# For each person and kind. Further lines are dropped; the audit log has them all.
MAILS_A_DAY = 20
# Sent once a day for each account already, however many accounts a person owns.
_BOUNDED_ALREADY = (Kind.DIGEST,)
# An e-mail names this many and counts the rest.
MOST_LINES = 20
LINES_A_RUN = 1_000
# Without a worker, lines wait. News this old would only confuse.
KEPT_FOR = timedelta(days=2)


# --- Writing lines ------------------------------------------------------------------------------


def tell_of_key(*, account_id: int, key: str, actor: Actor) -> None:
    """Tell the account's owners, and whoever created it, of a new key. `key` is its masked form."""
    if actor.user is None and not actor.address:
        return  # the operator, at the server itself

    def line() -> str:
        return _("%(key)s, created by %(who)s") % {"key": key, "who": _who(actor)}

    _tell_members(Kind.NEW_KEY, account_id, line, also=actor.user)


def tell_of_member(*, account_id: int, member: User, role: str, actor: Actor) -> None:
    """Tell the account's other owners of somebody who accepted an invitation."""

    def line() -> str:
        return _("%(who)s, as %(role)s") % {"who": _who(actor), "role": ROLES[role]}

    _tell_members(Kind.NEW_MEMBER, account_id, line, but=member)


def tell_of_device(*, user: User, device: str, address: str) -> None:
    """Tell a person of a log-in from a device that is new to them, named in their language."""

    def line() -> str:
        place = address or _("an unknown address")
        return _("%(device)s, from %(address)s") % {"device": device, "address": place}

    _write(Kind.NEW_DEVICE, [user], None, line)


def tell_staff(kind: Kind, line: Callable[[], str]) -> None:
    """Tell the staff who may see outages and chose to hear of them. Call it in a transaction."""
    staff = User.objects.filter(is_staff=True, is_active=True, **{CHOICES[kind]: True})
    _write(kind, [one for one in staff if one.has_perm(SEES_OUTAGES)], None, line)


def add_digest(*, user: User, account_id: int, lines: Iterable[str]) -> None:
    """Add the lines of an owner's digest, which name their day themselves."""
    now, longest = timezone.now(), PersonMail._meta.get_field("line").max_length
    PersonMail.objects.bulk_create(
        PersonMail(
            user=user,
            kind=Kind.DIGEST,
            account_id=account_id,
            line=one_line(line)[:longest],
            created_at=now,
        )
        for line in lines
    )


def _who(actor: Actor) -> str:
    if not actor.address:
        return actor.name
    return _("%(name)s from %(address)s") % {"name": actor.name, "address": actor.address}


def _tell_members(
    kind: Kind,
    account_id: int,
    line: Callable[[], str],
    *,
    also: User | None = None,
    but: User | None = None,
) -> None:
    members = Membership.objects.filter(account_id=account_id).select_related("user")
    people = [
        one.user
        for one in members
        if (one.role == Membership.Role.OWNER or one.user == also) and one.user != but
    ]
    _write(kind, people, account_id, line)


def _write(
    kind: Kind, people: Iterable[User], account_id: int | None, line: Callable[[], str]
) -> None:
    """Store a line for each person, in the person's language."""
    now, longest = timezone.now(), PersonMail._meta.get_field("line").max_length

    def text_for(person: User) -> str:
        with languages.speaking(person.language):
            return one_line(f"{dates.show(now, 'j M Y, H:i')} UTC: {line()}")[:longest]

    PersonMail.objects.bulk_create(
        PersonMail(
            user=person,
            kind=kind,
            account_id=account_id,
            line=text_for(person),
            created_at=now,
        )
        for person in people
        if person.is_active and getattr(person, CHOICES[kind])
    )


# --- Sending ------------------------------------------------------------------------------------


def send_due(*, now: datetime) -> int:
    """Send what is waiting. Returns how many e-mails were sent."""
    PersonMail.objects.filter(created_at__lt=now - KEPT_FOR).delete()
    waiting = PersonMail.objects.select_related("user", "account")
    lines = waiting.order_by("user_id", "kind", "account_id", "id")[:LINES_A_RUN]
    by_mail = groupby(lines, key=lambda one: (one.user_id, one.kind, one.account_id))
    groups = [list(group) for _, group in by_mail]
    if len(groups) > 1 and sum(map(len, groups)) == LINES_A_RUN:
        groups.pop()  # The rest of this e-mail may be in the next run.
    return sum(map(_send, groups))


@transaction.atomic
def _take(lines: list[PersonMail]) -> list[PersonMail]:
    """Delete the lines and return them. Of two tasks at once, only one gets the lines of a mail."""
    rows = PersonMail.objects.filter(id__in=[one.id for one in lines])
    taken = set(rows.select_for_update().order_by("id").values_list("id", flat=True))
    PersonMail.objects.filter(id__in=taken).delete()
    return [one for one in lines if one.id in taken]


def _send(lines: list[PersonMail]) -> bool:
    """Take the lines and send them. If that fails, put them back for the next run."""
    mine = _take(lines)
    if not mine:
        return False
    first = mine[0]
    counted = (f"mails {first.kind}", str(first.user_id))
    is_bounded = first.kind in _BOUNDED_ALREADY
    if not is_bounded and daily_counts.is_used_up(*counted, most=MAILS_A_DAY):
        logger.warning("channels.person_mail.limited", extra={"user_id": first.user_id})
        return False
    try:
        with languages.speaking(first.user.language):
            send_mail(_subject(first), _text(mine), None, [first.user.email])
    except OSError as error:
        PersonMail.objects.bulk_create(mine)
        reason = {"reason": type(error).__name__, "user_id": first.user_id}
        logger.warning("channels.person_mail.not_sent", extra=reason)
        return False
    if not is_bounded:
        daily_counts.count(*counted, most=MAILS_A_DAY)
    logger.info("channels.person_mail.sent", extra={"user_id": first.user_id, "mail": first.kind})
    return True


def _subject(first: PersonMail) -> str:
    where = first.account.name if first.account else settings.SITE_NAME
    return one_line(f"{first.get_kind_display()}: {where}")


def _text(lines: list[PersonMail]) -> str:
    account: Account | None = lines[0].account
    return render_to_string(
        "emails/safety.txt",
        {
            "kind": lines[0].kind,
            "account": one_line(account.name) if account else "",
            "account_id": account.id if account else 0,
            "lines": [one.line for one in lines[:MOST_LINES]],
            "more": max(0, len(lines) - MOST_LINES),
            "site_name": settings.SITE_NAME,
            # A worker has no request to take the host from.
            "site_url": settings.PUBLIC_URL,
        },
    )

"""Mails about models that retire: to the owners and editors of their channels, and to operators.

A channel counts as a model's also if that is its fallback model.
A periodic task sends them. Each has a row (ModelNotice) that is written first, so it is sent once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from django.core.mail import send_mail
from django.db.models import Count, F, Q, QuerySet
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from channels import model_ends, model_moves
from channels.alerts import mail_operators
from channels.models import Account, Channel, LanguageModel, Membership, ModelNotice
from common import languages
from common.pages.numbers import local_number
from common.text import one_line

logger = logging.getLogger("gateway.channels")

LAST_NOTICE = timedelta(days=7)
# A mail names this many channels and counts the rest.
MOST_NAMED = 20
Kind = ModelNotice.Kind


def send_model_mails(*, now: datetime) -> int:
    """Send each due mail about the end of a model once. Returns how many were sent.

    Run it after the channels have moved, because the mail of the last day says which did.
    """
    due = LanguageModel.objects.filter(ends_on__lte=now.date() + model_ends.NOTICE)
    return sum(_send_all(model, now) for model in due.select_related("successor"))


def _send_all(model: LanguageModel, now: datetime) -> int:
    assert model.ends_on is not None  # it is due
    if not model.is_over(now.date()):
        is_last = now.date() >= model.ends_on - LAST_NOTICE
        kind = Kind.LAST if is_last else Kind.FIRST
        accounts = Account.objects.filter(channels__in=_list_on(model))
        return _send_to_accounts(model, kind, accounts, now)
    moved = model_moves.list_moved(model)
    remaining = _list_remaining(model)
    accounts = Account.objects.filter(channels__in=remaining)
    accounts |= Account.objects.filter(channels__in=moved.values("channel"))
    count = _send_to_accounts(model, Kind.OVER, accounts, now)
    if remaining.exists():
        count += _once(model, None, Kind.OVER, now, partial(_tell_operators, model, remaining))
    return count


def _list_on(model: LanguageModel) -> QuerySet[Channel]:
    return Channel.objects.filter(Q(model=model) | Q(fallback_model=model))


def _list_remaining(model: LanguageModel) -> QuerySet[Channel]:
    own, fallback = (
        model_moves.list_remaining(model, is_fallback=is_fallback) for is_fallback in (False, True)
    )
    return own | fallback


def _send_to_accounts(
    model: LanguageModel, kind: Kind, accounts: QuerySet[Account], now: datetime
) -> int:
    sent = ModelNotice.objects.filter(model=model, kind=kind, ends_on=F("model__ends_on"))
    told = sent.exclude(account=None).values("account")
    return sum(
        _once(model, account, kind, now, partial(_tell, model, account, kind, now))
        for account in accounts.exclude(id__in=told)
        .select_related("plan")
        .distinct()
        .order_by("id")
    )


def _once(
    model: LanguageModel,
    account: Account | None,
    kind: Kind,
    now: datetime,
    send: Callable[[], bool],
) -> bool:
    """Send a mail unless it was sent. If it cannot be sent, leave it to the next run."""
    assert model.ends_on is not None  # it is due
    # Of two tasks at once only one creates the row, and only that one sends.
    row, is_new = ModelNotice.objects.get_or_create(
        model=model, account=account, kind=kind, ends_on=model.ends_on, defaults={"sent_at": now}
    )
    if not is_new:
        return False
    if not send():
        row.delete()
        return False
    who = account.id if account else "operators"
    logger.info("channels.model_notice.sent", extra={"model": model.model_id, "account": who})
    return True


def _tell(model: LanguageModel, account: Account, kind: Kind, now: datetime) -> bool:
    roles = (Membership.Role.OWNER, Membership.Role.EDITOR)
    members = Membership.objects.filter(account=account, role__in=roles, user__is_active=True)
    people = list(members.order_by("id").values_list("user__email", "user__language"))
    try:
        for language, addresses in languages.group_by_language(people).items():
            with languages.speaking(language):
                subject, text = _write(model, account, kind, now)
                send_mail(one_line(subject), text, None, addresses)
    except OSError as error:
        logger.warning("channels.model_notice.not_sent", extra={"reason": str(error)})
        return False
    return True


def _write(model: LanguageModel, account: Account, kind: Kind, now: datetime) -> tuple[str, str]:
    """Return subject and text, in the active language."""
    own = Channel.objects.filter(account=account)
    staying: list[str] = []
    moved: list[str] = []
    for is_fallback in (False, True):
        moves = model_moves.list_moved(model).filter(is_fallback=is_fallback)
        left = model_moves.list_remaining(model, is_fallback=is_fallback)
        staying += _names_of(own.filter(id__in=left.values("id")), is_fallback=is_fallback)
        moved += _names_of(own.filter(id__in=moves.values("channel")), is_fallback=is_fallback)
    replacement = model_ends.find_replacement(model, today=now.date(), plan=account.plan)
    text = render_to_string(
        "emails/model_end.txt",
        {
            "model": model,
            "day": model_ends.show_day(model.ends_on) if model.ends_on else "",
            "is_over": kind == Kind.OVER,
            "account": one_line(account.name),
            "successor": model.successor,
            "will_move": replacement is not None,
            "has_fallbacks": own.filter(fallback_model=model).exists(),
            "staying": staying,
            "moved": moved,
        },
    )
    named = {"model": model, "account": account.name}
    if kind == Kind.OVER:
        return _("%(model)s has retired: %(account)s") % named, text
    return _("%(model)s retires soon: %(account)s") % named, text


def _names_of(channels: QuerySet[Channel], *, is_fallback: bool) -> list[str]:
    found = channels.order_by("name").values_list("name", flat=True)
    names = [one_line(name) for name in found]
    more = len(names) - MOST_NAMED
    if more > 0:
        rest = _("and %(count)s more") % {"count": local_number(more)}
        names = [*names[:MOST_NAMED], rest]
    if not is_fallback:
        return names
    return [_("%(channel)s (as its fallback model)") % {"channel": name} for name in names]


def _tell_operators(model: LanguageModel, remaining: QuerySet[Channel]) -> bool:
    counts = remaining.aggregate(channels=Count("id"), accounts=Count("account", distinct=True))
    return mail_operators(partial(_write_to_operators, model, counts))


def _write_to_operators(model: LanguageModel, counts: dict[str, int]) -> tuple[str, str]:
    named = {
        "model": model,
        "id": model.model_id,
        "channels": local_number(counts["channels"]),
        "accounts": local_number(counts["accounts"]),
        "successor": model.successor,
    }
    said = _(
        "%(model)s (%(id)s) has retired and is still in use (channels: %(channels)s, accounts: "
        "%(accounts)s)."
    )
    why = (
        _(
            "Their plans do not allow its successor %(successor)s, or it is switched off, has "
            "retired as well, or is the own model of a channel whose fallback model retired."
        )
        if model.successor
        else _("It has no successor.")
    )
    what_to_do = _(
        "They answer as long as the model's routes do. Set another successor on the model's page "
        "under /admin/, or add the successor to the plans: the gateway then moves the channels."
    )
    subject = _("Channels stay on a retired model: %(model)s") % named
    return subject, f"{said % named} {why % named}\n\n{what_to_do}"

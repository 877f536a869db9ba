"""E-mails to the operators (the superusers) about problems that only they can fix.

Periodic tasks send them, never requests: an unreachable mail server delays an e-mail by a minute,
and never affects a reply.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from django.conf import settings
from django.core.mail import send_mail
from django.utils.translation import gettext as _

from channels.models import RouteHealth, User
from common import languages
from common.contact import parse_contact
from common.text import one_line

logger = logging.getLogger("gateway.channels")


def mail_operators(write: Callable[[], tuple[str, str]]) -> bool:
    """Send an e-mail to every active superuser. Returns False if it could not be sent.

    `write` returns subject and text in the active language.
    """
    try:
        for language, addresses in languages.group_by_language(_superusers()).items():
            with languages.speaking(language):
                subject, text = write()
                send_mail(one_line(subject), text, None, addresses)
    except OSError as error:
        logger.warning("channels.alert.not_sent", extra={"reason": str(error)})
        return False
    return True


def _superusers() -> list[tuple[str, str]]:
    operators = User.objects.filter(is_active=True, is_superuser=True).exclude(email="")
    return list(operators.values_list("email", "language"))


def contacts() -> list[tuple[str, str]]:
    """Return address and language of whoever gets owners' requests.

    That is OPERATOR_CONTACT if it is an address, else the superusers.
    """
    contact = parse_contact(settings.OPERATOR_CONTACT)
    return [(contact.text, "")] if contact and contact.is_mail else _superusers()


def alert_of_broken_routes(*, now: datetime) -> int:
    """Send one e-mail about each route that stays out until somebody fixes it. Returns how many.

    The cause is a wrong key or a retired model. A route that answers again is forgotten, so its
    next failure is reported again.
    """
    broken = RouteHealth.objects.filter(is_permanent=True, alerted_at=None)
    return sum(_alert(route, now) for route in broken)


def _alert(route: RouteHealth, now: datetime) -> bool:
    row = RouteHealth.objects.filter(id=route.id)
    # Only one of two simultaneous tasks changes the row, and only that one sends the e-mail.
    if not row.filter(alerted_at=None).update(alerted_at=now):
        return False
    if not mail_operators(partial(_write, route)):
        row.update(alerted_at=None)
        return False
    return True


def _write(route: RouteHealth) -> tuple[str, str]:
    text = _(
        "%(provider)s refuses %(model)s: %(reason)s.\n\n"
        "This will not resolve itself: a key is wrong, or the model is gone. Meanwhile the gateway "
        "asks the model's other routes, if there are any, and tries this one with a short request "
        "of its own once a second while messages arrive.\n\n"
        "Fix the provider or the route under /admin/, and test the route there."
    )
    named = {
        "provider": route.provider_name,
        "model": route.provider_model,
        "reason": route.reason,
    }
    return _("A route is broken: %(provider)s") % named, text % named

"""E-mails to staff who chose them: a provider is down, and it is back.

A periodic task compares the routes' health with the outages that people know of. It writes the
lines of the e-mails in the transaction that creates or deletes an outage's row, so staff hear of
each once.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from channels import person_mails
from channels.models import Outage, PersonMail, Route, RouteHealth
from channels.routes import DEFAULT_PROVIDER
from common.pages.numbers import local_number

logger = logging.getLogger("gateway.channels")

# Shorter ones resolve themselves, and another route answers meanwhile.
TOLD_AFTER = timedelta(minutes=5)


def tell_of_outages(*, now: datetime) -> int:
    """Tell of outages that have lasted, and of those that are over. Returns how many of both.

    A route that has failed again by the time that the task looks counts as down all the while.
    """
    down = RouteHealth.objects.exclude(opened_at=None)
    lasting = {
        (row.provider_name, row.provider_model): row
        for row in down.filter(opened_at__lte=now - TOLD_AFTER)
        if _is_in_use(row.provider_name, row.provider_model)
    }
    still_down = set(down.values_list("provider_name", "provider_model"))
    count = 0
    for outage in Outage.objects.all():
        route = (outage.provider_name, outage.provider_model)
        if route not in still_down or not _is_in_use(*route):
            count += _end(outage, now)
        lasting.pop(route, None)
    return count + sum(_begin(row) for row in lasting.values())


def _is_in_use(provider_name: str, provider_model: str) -> bool:
    """Return whether requests still go to a route. One that staff switched off is no outage."""
    if provider_name == DEFAULT_PROVIDER:
        return bool(settings.PROVIDER_BASE_URL)
    return Route.objects.filter(
        Q(is_enabled=True, provider__is_enabled=True, model__is_enabled=True),
        provider__name=provider_name,
        provider_model=provider_model,
    ).exists()


@transaction.atomic
def _begin(row: RouteHealth) -> bool:
    assert row.opened_at is not None  # as selected
    is_new = Outage.objects.get_or_create(
        provider_name=row.provider_name,
        provider_model=row.provider_model,
        defaults={"began_at": row.opened_at},
    )[1]
    if is_new:
        named = {
            "model": row.provider_model,
            "provider": row.provider_name,
            "since": f"{row.opened_at:%H:%M}",
            "reason": row.reason,
            "failed": f"{row.failed_at:%H:%M}",
        }

        def line() -> str:
            if row.is_for_streams:
                text = _(
                    "%(model)s at %(provider)s is left out for streams since %(since)s UTC: "
                    "%(reason)s. It last failed at %(failed)s UTC"
                )
            else:
                text = _(
                    "%(model)s at %(provider)s is left out since %(since)s UTC: %(reason)s. It "
                    "last failed at %(failed)s UTC"
                )
            return text % named

        person_mails.tell_staff(PersonMail.Kind.OUTAGE, line)
        fields = {"provider": row.provider_name, "model": row.provider_model}
        logger.info("channels.outage.began", extra=fields)
    return is_new


@transaction.atomic
def _end(outage: Outage, now: datetime) -> bool:
    if not Outage.objects.filter(id=outage.id).delete()[0]:
        return False
    fields = {"provider": outage.provider_name, "model": outage.provider_model}
    logger.info("channels.outage.ended", extra=fields)
    is_in_use = _is_in_use(outage.provider_name, outage.provider_model)
    minutes = max(1, round((now - outage.began_at).total_seconds() / 60))

    def line() -> str:
        named = {"model": outage.provider_model, "provider": outage.provider_name}
        if is_in_use:
            text = _("%(model)s at %(provider)s answers again, after about %(minutes)s minutes")
            return text % (named | {"minutes": local_number(minutes)})
        return (
            _(
                "%(model)s at %(provider)s is no longer used, since staff changed its route, "
                "provider or model"
            )
            % named
        )

    person_mails.tell_staff(PersonMail.Kind.RECOVERY, line)
    return True

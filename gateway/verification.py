"""The complete verification: of the ledger itself, and against other stored data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from billing import verification as billing
from billing.models import VerificationRun
from channels import alerts
from common.db.plans import snapshot
from common.pages.numbers import local_number
from conversations.archive import verification as conversations

logger = logging.getLogger("gateway.billing")

DETAILS_KEPT = 1_000


def _pass_on(entries: Iterable[Any], *, total: int) -> Iterable[Any]:
    return entries


def verify(*, track: Callable[..., Iterable[Any]] = _pass_on) -> VerificationRun:
    """Verify the ledger in one snapshot. Returns the result without saving it.

    `track` gets the ledger's entries and their `total`, and may show its progress.
    """
    started_at = timezone.now()
    kept: list[str] = []
    count = 0
    with snapshot():
        entry_count = billing.count_entries()
        shown = partial(track, total=entry_count)
        found = chain(billing.find_differences(track=shown), conversations.find_differences())
        for count, difference in enumerate(found, 1):
            if count <= DETAILS_KEPT:
                kept.append(difference)
    return VerificationRun(
        started_at=started_at,
        finished_at=timezone.now(),
        entry_count=entry_count,
        difference_count=count,
        details=kept,
    )


def verify_and_alert() -> int:
    """Verify the ledger, save the result for the staff, and raise an alert if something differs."""
    run = verify()
    run.save()
    if run.difference_count:
        logger.critical(
            "billing.ledger.differs",
            extra={"differences": run.difference_count, "details": run.details[:20]},
        )
        alerts.mail_operators(partial(_write_alert, run))
    return run.difference_count


def _write_alert(run: VerificationRun) -> tuple[str, str]:
    named = {"count": local_number(run.difference_count), "first": "\n".join(run.details[:20])}
    text = ngettext(
        "The nightly verification found %(count)s difference. The first are:\n\n%(first)s\n\n"
        "For all of them, see /admin/, Ledger verifications.",
        "The nightly verification found %(count)s differences. The first are:\n\n%(first)s\n\n"
        "For all of them, see /admin/, Ledger verifications.",
        run.difference_count,
    )
    return _("The ledger has differences"), text % named

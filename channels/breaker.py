"""A circuit breaker for each (provider, model), shared by all processes through the database.

Five failures in a row leave a route out; then one request a second, whichever process it is in,
may probe it, and the first success lets all traffic back. A 429 leaves it out for as long as the
provider asks, a wrong key or a retired model for a minute at a time, or a second where no other
route is left. A route without a row is healthy, so the common case costs nothing but its absence
from the query that lists routes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.utils import timezone

from channels.errors import ProviderError
from channels.models import RouteHealth
from common import db
from common.clock import latest_believed

logger = logging.getLogger("gateway.channels")

# The reason of a call that was not made.
BREAKER_OPEN = "breaker_open"
FAILURES_TO_OPEN = 5
PROBE_EVERY = timedelta(seconds=1)
PERMANENT_FOR = timedelta(seconds=60)
LONGEST_RETRY_AFTER_SECONDS = 60
# So long after a probe was due, with nobody to make it, what is known of a route is out of date:
# while another route answers, a second one is asked by nobody. All may ask it then, as if it were
# in, or the moment it is needed one would probe it and all others fail. One failure ends that.
OUT_OF_DATE_AFTER = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Health:
    """A route's state as it was read with the routes; the default is a healthy one."""

    failure_count: int = 0
    is_permanent: bool = False
    retry_at: datetime | None = None
    # All routes of the model are out for good, and this is the first of them.
    is_last_left: bool = False

    def is_out(self, *, now: datetime) -> bool:
        return self.retry_at is not None and self.retry_at > now


def believed(retry_at: datetime) -> datetime:
    """Return when to ask again; long ago where it is later than any wait from now can last.

    Such a time was written by a clock that ran ahead. The first answer sets it right.
    """
    longest = timedelta(seconds=LONGEST_RETRY_AFTER_SECONDS)
    is_possible = retry_at <= latest_believed(timezone.now()) + max(longest, PERMANENT_FOR)
    return retry_at if is_possible else datetime.min.replace(tzinfo=UTC)


def state_of(row: RouteHealth, *, now: datetime) -> str:
    """Return what the breaker does: `closed` lets all through, `open` none, `half-open` a probe."""
    if row.retry_at is None:
        return "closed"
    return "open" if believed(row.retry_at) > now else "half-open"


_TAKE_PROBE = """
UPDATE channels_routehealth SET retry_at = %(next)s
 WHERE provider_name = %(provider)s AND provider_model = %(model)s AND retry_at <= %(until)s
"""


def may_call(provider_name: str, provider_model: str, health: Health, *, now: datetime) -> bool:
    """Tell whether a route may be called: it is in, or this call is the probe of its second."""
    if health.retry_at is None or health.retry_at <= now - OUT_OF_DATE_AFTER:
        return True
    # Who is out for a minute and the last one left is asked as soon as any other.
    if health.is_last_left and health.failure_count < FAILURES_TO_OPEN:
        return True
    until = now + (PERMANENT_FOR - PROBE_EVERY if health.is_last_left else timedelta())
    if health.is_out(now=until):
        return False
    wait = PERMANENT_FOR if health.is_permanent else PROBE_EVERY
    params = {
        "provider": provider_name,
        "model": provider_model,
        "until": db.time_param(until),
        "next": db.time_param(now + wait),
    }
    return db.execute(_TAKE_PROBE, params) == 1


def note_success(provider_name: str, provider_model: str, health: Health) -> None:
    """Let all traffic back to a route that has answered; writes only where it had failed."""
    if not health.failure_count:
        return
    if RouteHealth.objects.filter(
        provider_name=provider_name, provider_model=provider_model
    ).delete()[0]:
        fields = {"provider": provider_name, "model": provider_model}
        logger.info("provider.route.recovered", extra=fields)


_NOTE_FAILURE = """
INSERT INTO channels_routehealth AS h
       (provider_name, provider_model, failure_count, is_permanent, reason, retry_at, failed_at)
VALUES (%(provider)s, %(model)s, 1, %(permanent)s, %(reason)s, %(out_until)s, %(now)s)
ON CONFLICT (provider_name, provider_model) DO UPDATE
   SET failure_count = h.failure_count + 1, is_permanent = excluded.is_permanent,
       reason = excluded.reason, failed_at = excluded.failed_at,
       retry_at = CASE WHEN excluded.retry_at IS NOT NULL THEN excluded.retry_at
                       WHEN h.failure_count + 1 >= %(most)s THEN %(next_probe)s
                       ELSE h.retry_at END
RETURNING failure_count
"""


def note_failure(
    provider_name: str, provider_model: str, error: ProviderError, *, now: datetime
) -> None:
    """Count a failure; leave the route out where it was one too many, or one that will stay."""
    out_until = None
    if error.permanent:
        out_until = now + PERMANENT_FOR
    elif error.retry_after_seconds:
        wait = min(error.retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS)
        out_until = now + timedelta(seconds=wait)
    row = db.fetch_row(
        _NOTE_FAILURE,
        {
            "provider": provider_name,
            "model": provider_model,
            "permanent": error.permanent,
            "reason": error.reason[:50],
            "out_until": db.time_param(out_until) if out_until else None,
            "now": db.time_param(now),
            "most": FAILURES_TO_OPEN,
            "next_probe": db.time_param(now + PROBE_EVERY),
        },
    )
    fields = {"provider": provider_name, "model": provider_model, "reason": error.reason}
    if error.permanent:
        # For the staff: a key or a route has to be mended.
        logger.error("provider.route.broken", extra=fields)
    elif row and row[0] == FAILURES_TO_OPEN:
        logger.error("provider.route.opened", extra=fields)

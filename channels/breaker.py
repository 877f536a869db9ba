"""A circuit breaker for each (provider, model), shared by all processes through the database.

A failed request only raises a suspicion, because the request itself may be the cause. After five
doubtful failures in a row, the gateway sends the route a request of its own (channels/probes.py),
and only the result of that probe opens the breaker or clears the count. Only failures that no
request can cause open it at once: a refused key, a retired model, no connection. While a route is
open, a process with traffic for it probes it once a second, until a probe gets an answer. After a
429, the gateway leaves the route out for as long as the provider asks, and then uses it again.

Streams are counted separately, so that plain answers do not hide failing streams. A failed probe
that was a stream opens the breaker for streams only.

A route without a row is healthy, so the common case costs nothing beyond the query that lists the
routes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from channels.errors import Fault, ProviderError
from channels.models import RouteHealth
from common import db
from common.clock import HONEST_SKEW

logger = logging.getLogger("gateway.channels")

# The error's reason if the breaker prevented the call.
BREAKER_OPEN = "breaker_open"
FAILURES_TO_OPEN = 5
PROBE_EVERY = timedelta(seconds=1)
LONGEST_RETRY_AFTER_SECONDS = 60
# If the last failure is older than this, there was no traffic to probe the route. Requests may then
# use the route as if the breaker were closed. Otherwise every message would fail when the route is
# needed again, until a probe returns. Longer than the time between two failed probes, so that it
# never happens while there is traffic.
OUT_OF_DATE_AFTER = timedelta(seconds=15)
# If nobody streams any more, failures of streams are forgotten after this time.
FORGOTTEN_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Health:
    """A route's state, as read together with the routes. The default is healthy."""

    failure_count: int = 0
    stream_failure_count: int = 0
    is_for_streams: bool = False
    opened_at: datetime | None = None
    retry_at: datetime | None = None
    failed_at: datetime | None = None

    @classmethod
    def read(
        cls,
        failure_count: Any,
        stream_failure_count: Any,
        is_for_streams: Any,
        opened_at: Any,
        retry_at: Any,
        failed_at: Any,
    ) -> Health:
        """Return the health in a row of a statement. All values are None if there is no row."""
        return cls(
            failure_count or 0,
            stream_failure_count or 0,
            bool(is_for_streams),
            opened_at and db.time_value(opened_at),
            retry_at and believed(db.time_value(retry_at)),
            failed_at and believed(db.time_value(failed_at)),
        )

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None

    @property
    def is_proven(self) -> bool:
        """Whether a probe has opened the route, not only a caller's request."""
        return self.is_open and (self.is_for_streams or self.failure_count >= FAILURES_TO_OPEN)

    def is_out(self, *, is_stream: bool, now: datetime) -> bool:
        if not self.is_open:
            return self.retry_at is not None and self.retry_at > now
        if self.is_for_streams and not is_stream:
            return False
        return self.failed_at is not None and self.failed_at > now - OUT_OF_DATE_AFTER

    def due_probe(self, *, now: datetime) -> bool | None:
        """Return whether the probe that is due must be a stream, or None if none is due."""
        if not self.is_open:
            is_due = self.failure_count + self.stream_failure_count >= FAILURES_TO_OPEN
            return not self.failure_count if is_due else None
        if self.retry_at is not None and self.retry_at > now:
            return None
        # While streams are out, plain answers may start to fail as well.
        return self.is_for_streams and self.failure_count < FAILURES_TO_OPEN


def believed(moment: datetime) -> datetime:
    """Return a stored time, or one long ago if it is later than any wait from now can last.

    A clock that ran ahead wrote such a time. The next answer corrects it.
    """
    return moment if moment <= _latest(timezone.now()) else datetime.min.replace(tzinfo=UTC)


def _latest(now: datetime) -> datetime:
    """Return the latest time that a correct clock can have written here."""
    return now + HONEST_SKEW + timedelta(seconds=LONGEST_RETRY_AFTER_SECONDS)


def state_of(row: RouteHealth, *, now: datetime) -> str:
    """Return the breaker's state: `open` refuses all requests, `waiting` refuses them for a while.

    `open for streams` refuses only streams, and `closed` refuses none.
    """
    if row.opened_at is not None:
        return "open for streams" if row.is_for_streams else "open"
    return "waiting" if row.retry_at is not None and believed(row.retry_at) > now else "closed"


# --- Results of requests --------------------------------------------------------------------------

_THE_ROUTE = "provider_name = %(provider)s AND provider_model = %(model)s"

_NOTE = """
INSERT INTO channels_routehealth AS h
       (provider_name, provider_model, failure_count, stream_failure_count, is_permanent,
        reason, retry_at, opened_at, failed_at)
VALUES (%(provider)s, %(model)s, %(plain)s, %(streamed)s, %(permanent)s,
        %(reason)s, %(retry_at)s, %(opened_at)s, %(now)s)
ON CONFLICT (provider_name, provider_model) DO UPDATE
   SET failure_count = h.failure_count + excluded.failure_count,
       stream_failure_count = h.stream_failure_count + excluded.stream_failure_count,
       reason = excluded.reason,
       failed_at = excluded.failed_at,
       retry_at = CASE WHEN excluded.retry_at IS NULL
                         OR h.opened_at IS NOT NULL AND excluded.opened_at IS NOT NULL
                       THEN h.retry_at ELSE excluded.retry_at END,
       is_permanent = CASE WHEN excluded.opened_at IS NULL THEN h.is_permanent
                           ELSE excluded.is_permanent END,
       is_for_streams = h.is_for_streams AND excluded.opened_at IS NULL,
       opened_at = COALESCE(h.opened_at, excluded.opened_at)
RETURNING failure_count, stream_failure_count, is_for_streams, opened_at, retry_at, failed_at
"""


def note_failure(
    provider_name: str,
    provider_model: str,
    error: ProviderError,
    *,
    is_stream: bool = False,
    now: datetime,
) -> Health:
    """Record a failed request, if it says something about its route. Returns the new health."""
    opens = error.fault in (Fault.BROKEN, Fault.UNREACHABLE)
    # A refusal comes before any streaming, so it counts as a failure of plain answers.
    is_broken_stream = is_stream and error.fault is Fault.DOUBTFUL and not error.is_refusal
    wait = timedelta(seconds=min(error.retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS))
    if not (opens or wait or error.fault is Fault.DOUBTFUL):
        return Health()
    retry_after = PROBE_EVERY if opens else wait
    row = db.fetch_row(
        _NOTE,
        {
            "provider": provider_name,
            "model": provider_model,
            "plain": int(not wait and not is_broken_stream),
            "streamed": int(is_broken_stream),
            "permanent": error.permanent,
            "reason": error.reason[:50],
            "retry_at": db.param(now + retry_after) if retry_after else None,
            "opened_at": db.param(now) if opens else None,
            "now": db.param(now),
        },
    )
    assert row is not None, "the statement writes in any case"
    health = Health.read(*row)
    if opens and health.opened_at == now:
        _say_opened(provider_name, provider_model, error)
    return health


def _say_opened(provider_name: str, provider_model: str, error: ProviderError) -> None:
    # `broken` is for the staff: somebody must fix a key or a route.
    event = "provider.route.broken" if error.permanent else "provider.route.opened"
    fields = {"provider": provider_name, "model": provider_model, "reason": error.reason}
    logger.error(event, extra=fields)


def note_success(
    provider_name: str, provider_model: str, health: Health, *, is_stream: bool, now: datetime
) -> None:
    """Reset the count after an answer. Writes only if failures were counted.

    If a probe opened the route, it stays open: only another probe can show that it has recovered.
    """
    if health.failed_at is None:
        return
    is_over = Q(retry_at=None) | Q(retry_at__lte=now) | Q(retry_at__gt=_latest(now))
    is_closed = Q(opened_at=None) & is_over
    is_unproven = Q(is_for_streams=False, failure_count__lt=FAILURES_TO_OPEN)
    rows = RouteHealth.objects.filter(
        is_closed | ~Q(opened_at=None) & is_unproven,
        provider_name=provider_name,
        provider_model=provider_model,
    )
    is_old = health.failed_at <= now - FORGOTTEN_AFTER
    if is_stream or health.is_open or is_old or not health.stream_failure_count:
        rows.delete()
    elif health.failure_count:
        rows.update(failure_count=0)


# --- Results of probes ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """One process's right to probe a route: the row as it found it, and when the right ends."""

    is_stream: bool
    until: datetime
    opened_at: datetime | None


_CLAIM = f"""
UPDATE channels_routehealth
   SET probe_until = %(until)s,
       retry_at = CASE WHEN opened_at IS NULL THEN retry_at ELSE %(next)s END
 WHERE {_THE_ROUTE}
   AND CASE WHEN opened_at IS NOT NULL THEN retry_at <= %(now)s OR retry_at > %(latest)s
            ELSE failure_count + stream_failure_count >= %(most)s
                 AND (probe_until IS NULL OR probe_until <= %(now)s OR probe_until > %(latest)s) END
RETURNING opened_at
"""  # noqa: S608  # built from constants only


def claim_probe(
    provider_name: str, provider_model: str, health: Health, *, now: datetime, until: datetime
) -> Claim | None:
    """Claim the probe that is due, which ends by `until`.

    Returns None if no probe is due or another process has claimed it. For an open route, the next
    probe is due a second later, whatever the result of this one.
    """
    is_stream = health.due_probe(now=now)
    if is_stream is None:
        return None
    params = {
        "provider": provider_name,
        "model": provider_model,
        "now": db.param(now),
        "next": db.param(now + PROBE_EVERY),
        "until": db.param(until),
        "latest": db.param(_latest(now)),
        "most": FAILURES_TO_OPEN,
    }
    row = db.fetch_row(_CLAIM, params)
    return Claim(is_stream, until, row[0] and db.time_value(row[0])) if row else None


# Changes the row only if it is still the one that the probe was claimed for. A probe that hung
# until after the provider recovered must not undo the result of a later one.
_FAILED = f"""
UPDATE channels_routehealth
   SET failure_count = CASE WHEN %(is_stream)s THEN failure_count
                            WHEN failure_count < %(most)s THEN %(most)s
                            ELSE failure_count + 1 END,
       reason = %(reason)s,
       failed_at = %(now)s,
       is_permanent = %(permanent)s,
       is_for_streams = CASE WHEN opened_at IS NULL THEN %(is_stream)s
                             ELSE is_for_streams AND %(is_stream)s END,
       retry_at = CASE WHEN opened_at IS NULL THEN %(next)s ELSE retry_at END,
       opened_at = COALESCE(opened_at, %(now)s)
 WHERE {_THE_ROUTE}
   AND CASE WHEN opened_at IS NULL THEN probe_until = %(until)s ELSE opened_at = %(opened_at)s END
RETURNING opened_at
"""  # noqa: S608  # built from constants only


def note_probe_failure(
    provider_name: str, provider_model: str, error: ProviderError, claim: Claim, *, now: datetime
) -> None:
    """Open a route, or keep it open, because its probe failed."""
    row = db.fetch_row(
        _FAILED,
        {
            "provider": provider_name,
            "model": provider_model,
            "is_stream": claim.is_stream,
            "most": FAILURES_TO_OPEN,
            "reason": error.reason[:50],
            "permanent": error.permanent,
            "now": db.param(now),
            "next": db.param(now + PROBE_EVERY),
            "until": db.param(claim.until),
            "opened_at": claim.opened_at and db.param(claim.opened_at),
        },
    )
    if row is not None and db.time_value(row[0]) == now:
        _say_opened(provider_name, provider_model, error)


# A plain answer proves nothing about streams if those have failed or are left out.
_CLEAR = f"""
DELETE FROM channels_routehealth
 WHERE {_THE_ROUTE}
   AND (%(is_stream)s OR stream_failure_count = 0
        OR opened_at IS NOT NULL AND NOT is_for_streams)
RETURNING opened_at
"""  # noqa: S608  # built from constants only
_CLEAR_PLAIN = f"""
UPDATE channels_routehealth SET failure_count = 0, probe_until = NULL WHERE {_THE_ROUTE}
"""  # noqa: S608  # built from constants only


def note_probe_success(provider_name: str, provider_model: str, claim: Claim) -> None:
    """Let traffic back to a route that has answered a probe.

    A plain answer clears only the plain failures if streams have failed or are left out.
    """
    route = {"provider": provider_name, "model": provider_model}
    row = db.fetch_row(_CLEAR, route | {"is_stream": claim.is_stream})
    if row is None:
        db.execute(_CLEAR_PLAIN, route)
    elif row[0] is not None:
        logger.info("provider.route.recovered", extra=route)

"""How far apart the clocks of an installation's machines may be, and how the API writes a time."""

from datetime import UTC, datetime, timedelta

# Machines that keep time by NTP differ by milliseconds. If a stored time is later than now plus
# this plus the longest wait it can stand for, a wrong clock wrote it: no request is refused because
# of it.
HONEST_SKEW = timedelta(seconds=60)


def rfc3339(moment: datetime | None) -> str | None:
    """Return a time in UTC with Z, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None

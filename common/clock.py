"""How far apart the clocks of an installation's machines may be."""

from datetime import datetime, timedelta

# Machines that keep time by NTP differ by milliseconds. If a stored time is further in the future
# than this plus the longest wait it can stand for, a wrong clock wrote it: no request is refused
# because of it.
HONEST_SKEW = timedelta(seconds=60)


def latest_believed(now: datetime) -> datetime:
    """Return the latest time that a correct clock on another machine may show now."""
    return now + HONEST_SKEW

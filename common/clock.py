"""How far the clocks of an installation's machines may be apart."""

from datetime import datetime, timedelta

# Machines that keep time by NTP differ by milliseconds. A stored time further in the future than
# this, and than the longest wait it can stand for, was written by a clock that was wrong: nothing
# is refused for its sake.
HONEST_SKEW = timedelta(seconds=60)


def latest_believed(now: datetime) -> datetime:
    """Return the latest time that an honest clock can have called the present."""
    return now + HONEST_SKEW

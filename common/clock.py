"""How far apart the clocks of an installation's machines may be."""

from datetime import timedelta

# Machines that keep time by NTP differ by milliseconds. If a stored time is later than now plus
# this plus the longest wait it can stand for, a wrong clock wrote it: no request is refused because
# of it.
HONEST_SKEW = timedelta(seconds=60)

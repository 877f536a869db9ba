"""Gives a server process another time of day, from its very start.

Python imports this module if its folder is on PYTHONPATH. It moves the wall clock by
CLOCK_OFFSET_SECONDS, from where the clock runs on. The monotonic clock stays as it is.
Processes forked later inherit both.
"""

import os
import time

import time_machine

if _offset := float(os.environ.get("CLOCK_OFFSET_SECONDS") or 0):
    time_machine.travel(time.time() + _offset, tick=True).start()
    time.time()  # the clock starts with its first reading

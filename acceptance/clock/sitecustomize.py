"""Gives a server process another time of day, from its very start.

Python imports this module by itself where its folder is on PYTHONPATH. The wall clock is moved
by ACCEPTANCE_CLOCK_OFFSET seconds and goes on from there; the monotonic clock is left alone.
Processes forked later inherit it.
"""

import os
import time

import time_machine

if _offset := float(os.environ.get("ACCEPTANCE_CLOCK_OFFSET") or 0):
    time_machine.travel(time.time() + _offset, tick=True).start()
    time.time()  # from the first reading on the clock goes

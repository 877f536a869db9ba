"""What the steps of other apps read of billing's: import the name and the columns, never type them.

A turn is opened in the statement that places its hold, and stored in the one that settles it
(common/db), so conversations writes SQL that reads these rows.
"""

from __future__ import annotations

from common.db import Returned

# Before a call: whether the limits leave room, read without a lock (admission.py).
LOOKED = Returned("looked", ("has_quota", "has_cap_room", "has_credits"))
# After it: the hold, where it is resolved now (settlement.py).
RESOLVED = Returned(
    "resolved",
    (
        "id",
        "channel_id",
        "key_id",
        "cap_day",
        "cap_month",
        "channel_capped_microcredits",
        "key_capped_microcredits",
    ),
)

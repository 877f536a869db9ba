"""One of the processes of B7: makes the same grant many times at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection

from billing import grants
from channels.models import Account


def grant_at_once(order: dict[str, Any]) -> list[bool]:
    """Grant with one reference on many threads, from `start_at` on. Returns which were new."""
    account = Account.objects.get(id=order["account_id"])

    def grant(_: int) -> bool:
        time.sleep(max(0.0, order["start_at"] - time.time()))
        try:
            return grants.grant_credits(
                account=account,
                amount_microcredits=order["microcredits"],
                reason="Paid",
                reference=order["reference"],
            )[1]
        finally:
            connection.close()

    with ThreadPoolExecutor(order["threads"]) as pool:
        return list(pool.map(grant, range(order["threads"])))

"""Verifies the ledger: every balance, hold, entry, and count must agree with the others.

Reads one snapshot, streams the ledger in the order of its entries, and keeps a handful of numbers
in memory. So a million entries take seconds, and no more memory than a hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db import connection

from billing.models import CreditAccount, LedgerEntry

_ENTRIES_AT_ONCE = 5_000

# Passes entries on, and shows how many have passed.
Track = Callable[[Iterable[Any]], Iterable[Any]]

# Each statement selects the rows of one kind of difference. The key is the text to report.
_DIFFERENCES = {
    "held credits differ from the open holds": """
        SELECT c.account_id, c.held_microcredits, COALESCE(SUM(h.amount_microcredits), 0)
          FROM billing_creditaccount c
          LEFT JOIN billing_hold h ON h.account_id = c.account_id AND h.state = 'held'
         GROUP BY c.account_id, c.held_microcredits
        HAVING c.held_microcredits <> COALESCE(SUM(h.amount_microcredits), 0)
    """,
    "a captured hold has no charge of its amount": """
        SELECT h.id, h.captured_microcredits, COALESCE(e.amount_microcredits, 0)
          FROM billing_hold h LEFT JOIN billing_ledgerentry e ON e.hold_id = h.id
         WHERE h.state = 'captured'
           AND h.captured_microcredits <> COALESCE(e.amount_microcredits, 0)
    """,
    "a hold that was not captured shows a charge": """
        SELECT h.id, h.captured_microcredits, h.state
          FROM billing_hold h WHERE h.state <> 'captured' AND h.captured_microcredits <> 0
    """,
    "a hold's channel does not belong to its account": """
        SELECT h.id, h.account_id, c.account_id
          FROM billing_hold h LEFT JOIN channels_channel c ON c.id = h.channel_id
         WHERE c.id IS NULL OR c.account_id <> h.account_id
    """,
    "a charge has no captured hold of its account": """
        SELECT e.id, e.amount_microcredits, h.state
          FROM billing_ledgerentry e LEFT JOIN billing_hold h ON h.id = e.hold_id
         WHERE e.kind = 'charge' AND (h.id IS NULL OR h.state <> 'captured'
                                      OR h.account_id <> e.credit_account_id)
    """,
    "a loss has no released hold of its account": """
        SELECT e.id, e.amount_microcredits, h.state
          FROM billing_ledgerentry e LEFT JOIN billing_hold h ON h.id = e.hold_id
         WHERE e.kind = 'absorbed' AND (h.id IS NULL OR h.state <> 'released'
                                        OR h.account_id <> e.credit_account_id
                                        OR e.amount_microcredits > h.amount_microcredits)
    """,
    "grants do not add up to the balance": """
        SELECT c.account_id, c.balance_microcredits,
               COALESCE(SUM(g.remaining_microcredits), 0)
               - (c.spent_microcredits - c.allocated_microcredits)
          FROM billing_creditaccount c
          LEFT JOIN billing_creditgrant g ON g.credit_account_id = c.account_id
         GROUP BY c.account_id, c.balance_microcredits, c.spent_microcredits,
                  c.allocated_microcredits
        HAVING c.balance_microcredits <> COALESCE(SUM(g.remaining_microcredits), 0)
               - (c.spent_microcredits - c.allocated_microcredits)
    """,
    "what was spent differs from the entries": """
        SELECT c.account_id, c.spent_microcredits, COALESCE(SUM(e.amount_microcredits), 0)
          FROM billing_creditaccount c
          LEFT JOIN billing_ledgerentry e ON e.credit_account_id = c.account_id
               AND e.debit = 'customer' AND e.kind IN ('charge', 'adjustment')
         GROUP BY c.account_id, c.spent_microcredits
        HAVING c.spent_microcredits <> COALESCE(SUM(e.amount_microcredits), 0)
    """,
    "a grant differs from its entry": """
        SELECT g.id, g.amount_microcredits, e.amount_microcredits
          FROM billing_creditgrant g JOIN billing_ledgerentry e ON e.id = g.entry_id
         WHERE g.amount_microcredits <> e.amount_microcredits OR e.credit <> 'customer'
            OR g.credit_account_id <> e.credit_account_id
            OR (g.category = 'adjustment') <> (e.kind = 'adjustment')
    """,
    "an account does not know when its next grant ends": """
        SELECT c.account_id, c.next_expiry_at, MIN(g.expires_at)
          FROM billing_creditaccount c
          JOIN billing_creditgrant g ON g.credit_account_id = c.account_id
               AND g.remaining_microcredits > 0 AND g.expires_at IS NOT NULL
         GROUP BY c.account_id, c.next_expiry_at
        HAVING c.next_expiry_at IS NULL
    """,
    "credits came without a grant": """
        SELECT e.id, e.amount_microcredits, 0
          FROM billing_ledgerentry e LEFT JOIN billing_creditgrant g ON g.entry_id = e.id
         WHERE e.credit = 'customer' AND g.id IS NULL
    """,
    "an entry moves credits between the wrong books": """
        SELECT e.id, e.debit, e.credit FROM billing_ledgerentry e
         WHERE (e.kind = 'charge' AND (e.debit <> 'customer' OR e.credit <> 'revenue'))
            OR (e.kind = 'grant' AND (e.debit <> 'issuance' OR e.credit <> 'customer'))
            OR (e.kind = 'absorbed' AND (e.debit <> 'absorbed' OR e.credit <> 'revenue'))
            OR (e.kind = 'adjustment' AND (e.hold_id IS NOT NULL
                OR NOT ((e.debit = 'customer' AND e.credit = 'issuance')
                        OR (e.debit = 'issuance' AND e.credit = 'customer'))))
            OR (e.kind = 'expiry' AND (e.debit <> 'customer' OR e.credit <> 'issuance'))
    """,
    "a day's count differs from its holds": """
        SELECT u.id, u.message_count, COUNT(h.id)
          FROM billing_dailyusage u
          LEFT JOIN billing_hold h ON h.channel_id = u.channel_id AND h.is_test = u.is_test
                                  AND h.day = u.day AND h.state IN ('held', 'captured')
         GROUP BY u.id, u.message_count HAVING u.message_count <> COUNT(h.id)
    """,
    "a day's holds are not counted": """
        SELECT h.channel_id, h.day, COUNT(*)
          FROM billing_hold h
          LEFT JOIN billing_dailyusage u ON u.channel_id = h.channel_id
                                        AND u.is_test = h.is_test AND u.day = h.day
         WHERE h.state IN ('held', 'captured') AND u.id IS NULL
         GROUP BY h.channel_id, h.day
    """,
}


def find_differences(*, track: Track = iter) -> Iterator[str]:
    """Yield a sentence for each difference in the books. Call it inside a `snapshot()`.

    `track` gets the ledger's entries, as `count_entries` counts them.
    """
    yield from _check_ledger(track)
    for words, statement in _DIFFERENCES.items():
        yield from query_differences(words, statement)


def query_differences(words: str, statement: str) -> Iterator[str]:
    """Yield a sentence for each row of a statement that selects (what, found, expected)."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        for subject, found, expected in cursor:
            yield f"{words}: {subject}: {found} against {expected}"


def _check_ledger(track: Track) -> Iterator[str]:
    """Replay each account's entries in order, then compare the result with its balance."""
    balances: dict[int, tuple[int, int]] = {
        account: (balance, count)
        for account, balance, count in CreditAccount.objects.values_list(
            "account_id", "balance_microcredits", "entry_count"
        )
    }
    replay = _Replay(take=balances.pop)
    entries = LedgerEntry.objects.order_by("credit_account_id", "sequence").values_list(
        "credit_account_id",
        "sequence",
        "debit",
        "credit",
        "amount_microcredits",
        "balance_after_microcredits",
    )
    for row in track(entries.iterator(chunk_size=_ENTRIES_AT_ONCE)):
        yield from replay.add(*row)
    yield from replay.finish()
    for account, (balance, count) in balances.items():
        if balance or count:
            yield f"account {account}: balance {balance} after {count} entries, its ledger is empty"


class _Replay:
    """Replays entries, one account after the other."""

    def __init__(self, take: Callable[[int, tuple[int, int]], tuple[int, int]]) -> None:
        self._take = take
        self._account: int | None = None
        self._sequence = 0
        self._balance = 0

    def add(
        self, account: int, sequence: int, debit: str, credit: str, amount: int, after: int
    ) -> Iterator[str]:
        if account != self._account:
            yield from self.finish()
            self._account, self._sequence, self._balance = account, 0, 0
        self._sequence += 1
        if sequence != self._sequence:
            yield f"account {account}: entry {sequence} where {self._sequence} was expected"
            self._sequence = sequence
        self._balance += (amount if credit == "customer" else 0) - (
            amount if debit == "customer" else 0
        )
        if after != self._balance:
            yield (
                f"account {account}: entry {sequence} says balance {after}, "
                f"the entries add up to {self._balance}"
            )
            self._balance = after

    def finish(self) -> Iterator[str]:
        if self._account is None:
            return
        balance, count = self._take(self._account, (0, 0))
        if balance != self._balance:
            yield f"account {self._account}: balance {balance}, its ledger says {self._balance}"
        if count != self._sequence:
            yield f"account {self._account}: {count} entries counted, the last is {self._sequence}"


def count_entries() -> int:
    """Return how many entries the ledger has."""
    return LedgerEntry.objects.count()

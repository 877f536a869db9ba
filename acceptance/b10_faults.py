"""Ways to damage the books by one micro-credit, one row, or one count.

Braces name rows of b10_worker.Ids. `COPY |table|where|column=value|…` inserts a second row like the
one at `where`, with those columns changed.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCOUNT = "UPDATE billing_creditaccount SET {0} WHERE account_id = {{account}}"
ENTRY = "UPDATE billing_ledgerentry SET {0} WHERE id = {{entry}}"
FIRST = "UPDATE billing_ledgerentry SET {0} WHERE id = {{first_entry}}"
LAST = "UPDATE billing_ledgerentry SET {0} WHERE id = {{last_entry}}"
GRANT = "UPDATE billing_creditgrant SET {0} WHERE entry_id = {{first_entry}}"
HOLD = "UPDATE billing_hold SET {0} WHERE id = {{hold}}"
OPEN_HOLD = "UPDATE billing_hold SET {0} WHERE id = {{open_hold}}"
RELEASED_HOLD = "UPDATE billing_hold SET {0} WHERE id = {{released_hold}}"
MESSAGE = "UPDATE conversations_message SET {0} WHERE id = {{hold}}"
SESSION = "UPDATE conversations_chatsession SET {0} WHERE id = {{session}}"
USAGE = "UPDATE billing_dailyusage SET {0} WHERE channel_id = {{channel}}"

PRICE = "(SELECT amount_microcredits FROM billing_ledgerentry WHERE id = {last_entry})"
AGAIN = f"balance_microcredits = balance_microcredits - {PRICE}, entry_count = entry_count + 1"
SECOND_CHARGE = (
    "COPY |billing_ledgerentry|t.id = {last_entry}|sequence=t.sequence + 1"
    "|balance_after_microcredits=t.balance_after_microcredits - t.amount_microcredits|hold_id="
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A description of what is damaged, and the statements that do it."""

    name: str
    statements: tuple[str, ...]
    # SQLite keeps rows unique in any case, so some faults cannot happen there.
    is_for_postgres: bool = False


def one(name: str, *statements: str) -> Fault:
    return Fault(name, statements)


def set_to(name: str, template: str, change: str) -> Fault:
    return Fault(name, (template.format(change),))


def drift(name: str, template: str, column: str) -> list[Fault]:
    """Return the two faults of one column: 1 too high, and 1 too low."""
    return [
        set_to(f"{name} {sign}1", template, f"{column} = {column} {sign} 1") for sign in ("+", "-")
    ]


def delete(name: str, table: str, where: str) -> Fault:
    return Fault(name, (f"DELETE FROM {table} WHERE {where}",))


DRIFT = [
    *drift("balance", ACCOUNT, "balance_microcredits"),
    *drift("held credits", ACCOUNT, "held_microcredits"),
    *drift("credits spent", ACCOUNT, "spent_microcredits"),
    set_to("credits allocated +1", ACCOUNT, "allocated_microcredits = allocated_microcredits + 1"),
    *drift("count of entries", ACCOUNT, "entry_count"),
    *drift("amount of a grant's entry", FIRST, "amount_microcredits"),
    *drift("amount of a charge", ENTRY, "amount_microcredits"),
    *drift("amount of the last charge", LAST, "amount_microcredits"),
    *drift("balance after a grant", FIRST, "balance_after_microcredits"),
    *drift("balance after a charge", ENTRY, "balance_after_microcredits"),
    *drift("balance after the last charge", LAST, "balance_after_microcredits"),
    set_to("amount of a grant +1", GRANT, "amount_microcredits = amount_microcredits + 1"),
    set_to("rest of a grant -1", GRANT, "remaining_microcredits = remaining_microcredits - 1"),
    *drift("charge of a reply", MESSAGE, "charged_microcredits"),
    *drift("count of a session", SESSION, "message_count"),
    *drift("count of a day", USAGE, "message_count"),
    *drift("amount of an open hold", OPEN_HOLD, "amount_microcredits"),
    set_to("captured amount -1", HOLD, "captured_microcredits = captured_microcredits - 1"),
    set_to("next end of a grant forgotten", ACCOUNT, "next_expiry_at = NULL"),
    one(
        "balance and its last entry +1",
        ACCOUNT.format("balance_microcredits = balance_microcredits + 1"),
        LAST.format("balance_after_microcredits = balance_after_microcredits + 1"),
    ),
    one(
        "charge, its hold and its reply +1, balance unchanged",
        ENTRY.format("amount_microcredits = amount_microcredits + 1"),
        HOLD.format(
            "captured_microcredits = captured_microcredits + 1, "
            "amount_microcredits = amount_microcredits + 1"
        ),
        MESSAGE.format("charged_microcredits = charged_microcredits + 1"),
    ),
]
MISSING = [
    delete("entry of a grant missing", "billing_ledgerentry", "id = {first_entry}"),
    delete("grant missing", "billing_creditgrant", "entry_id = {first_entry}"),
    delete("charge missing", "billing_ledgerentry", "id = {entry}"),
    delete("last charge missing", "billing_ledgerentry", "id = {last_entry}"),
    one(
        "last charge missing, its sums put right",
        ACCOUNT.format(
            f"entry_count = entry_count - 1, spent_microcredits = spent_microcredits - {PRICE}, "
            f"balance_microcredits = balance_microcredits + {PRICE}"
        ),
        "DELETE FROM billing_ledgerentry WHERE id = {last_entry}",
    ),
    delete("reply missing", "conversations_message", "id = {hold}"),
    delete("user's message missing", "conversations_message", "id = {user_message}"),
    delete("captured hold missing", "billing_hold", "id = {hold}"),
    delete("open hold missing", "billing_hold", "id = {open_hold}"),
    delete("day's count missing", "billing_dailyusage", "channel_id = {channel}"),
    delete("credit account missing", "billing_creditaccount", "account_id = {account}"),
]
ORPHANED = [
    set_to("charge of an unknown hold", ENTRY, "hold_id = {new_id}"),
    set_to("charge of no hold", ENTRY, "hold_id = {no_id}"),
    set_to("charge of a released hold", ENTRY, "hold_id = {released_hold}"),
    set_to("reply under another id", MESSAGE, "id = {new_id}"),
    set_to(
        "charge in another account",
        ENTRY,
        "credit_account_id = {other_account}, sequence = sequence + 1000",
    ),
    set_to("hold of another account", HOLD, "account_id = {other_account}"),
    set_to("hold of another channel", HOLD, "channel_id = {other_channel}"),
    set_to("hold of another day", HOLD, "day = '2001-01-01'"),
    set_to("hold of a test key", HOLD, "is_test = NOT is_test"),
    set_to("grant of another account", GRANT, "credit_account_id = {other_account}"),
    one(
        "credits without an entry",
        "COPY |billing_creditaccount|t.account_id = {account}|account_id={poor_account}"
        "|balance_microcredits=1|held_microcredits=0|entry_count=0|spent_microcredits=0"
        "|allocated_microcredits=0",
    ),
    one(
        "day counted without a hold",
        "COPY |billing_dailyusage|t.channel_id = {channel}|id=999999|day='2001-01-01'"
        "|message_count=1",
    ),
]
MISTAKEN = [
    set_to("captured hold shown as released", HOLD, "state = 'released'"),
    set_to("captured hold shown as open", HOLD, "state = 'held'"),
    set_to("released hold shown as captured", RELEASED_HOLD, "state = 'captured'"),
    set_to("released hold shown as open", RELEASED_HOLD, "state = 'held'"),
    set_to("released hold with a charge", RELEASED_HOLD, "captured_microcredits = 1"),
    set_to("open hold shown as expired", OPEN_HOLD, "state = 'expired'"),
    set_to("reply shown as a user's", MESSAGE, "role = 'user'"),
    set_to("reply in another place", MESSAGE, "position = 1000"),
    set_to("reply in another channel", MESSAGE, "channel_id = {other_channel}"),
    set_to("reply of a test key", MESSAGE, "is_test = NOT is_test"),
]
# The other side of a movement.
UNBALANCED = [
    set_to("charge shown as a grant", ENTRY, "kind = 'grant'"),
    set_to("charge shown as an adjustment", ENTRY, "kind = 'adjustment'"),
    set_to("grant shown as an adjustment", FIRST, "kind = 'adjustment'"),
    set_to("charge the wrong way round", ENTRY, "debit = 'revenue', credit = 'customer'"),
    set_to("charge to the wrong book", ENTRY, "credit = 'absorbed'"),
    set_to("grant from the wrong book", FIRST, "debit = 'revenue'"),
    set_to("charge past the customer", ENTRY, "debit = 'issuance'"),
]
DUPLICATED = [
    Fault(
        "charge written twice",
        ("COPY |billing_ledgerentry|t.id = {last_entry}|hold_id={no_id}",),
        is_for_postgres=True,
    ),
    one("charge written twice, with the next number", SECOND_CHARGE + "{no_id}"),
    one("charge written twice, balance right", SECOND_CHARGE + "{no_id}", ACCOUNT.format(AGAIN)),
    one(
        "reply charged twice by two holds, all sums right",
        "COPY |billing_hold|t.id = {hold}|id={new_id}|request_id='twice'",
        SECOND_CHARGE + "(SELECT id FROM billing_hold WHERE request_id = 'twice')",
        ACCOUNT.format(f"{AGAIN}, spent_microcredits = spent_microcredits + {PRICE}"),
        USAGE.format("message_count = message_count + 1"),
    ),
    one(
        "reply stored twice",
        "COPY |conversations_message|t.id = {hold}|id={new_id}|position=1000",
    ),
    one(
        "grant written twice, balance unchanged",
        "COPY |billing_ledgerentry|t.id = {first_entry}|reference=NULL|sequence={next_sequence}",
    ),
]
FAULTS = [*DRIFT, *MISSING, *ORPHANED, *MISTAKEN, *UNBALANCED, *DUPLICATED]

"""Inside B10: multiplies correct books to a million entries, and damages small ones on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.db import connection, transaction

from acceptance.b10_faults import FAULTS, Fault


def is_postgres() -> bool:
    return connection.vendor == "postgresql"


def execute(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.rowcount)


# --- Loading ------------------------------------------------------------------------------------


def load(order: dict[str, int]) -> dict[str, int]:
    """Repeat each account's first charge until there are `entries` in total.

    Each account must have one grant, and one charge for one turn in one session. Turn, hold, and
    entry are copied, with new ids and positions, and the sums are carried forward.
    """
    accounts = fetch_value("SELECT COUNT(*) FROM billing_creditaccount")
    last = order["entries"] // accounts
    with transaction.atomic():
        if is_postgres():
            # Foreign keys are right by construction. Checking them would take most of the time.
            execute("SET LOCAL session_replication_role = replica")
        execute(f"CREATE TEMPORARY TABLE numbers AS {series(3, last)}")
        charges = "SELECT * FROM billing_ledgerentry WHERE sequence = 2"
        execute("CREATE TEMPORARY TABLE first_charge AS " + charges)
        copy_turns()
        carry_sums(last)
    execute("VACUUM ANALYZE" if is_postgres() else "ANALYZE")
    return {"entries": fetch_value("SELECT COUNT(*) FROM billing_ledgerentry")}


def fetch_value(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def series(first: int, last: int) -> str:
    if is_postgres():
        return f"SELECT n FROM generate_series({first}, {last}) AS n"
    return (
        f"WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last}) "
        "SELECT n FROM s"
    )


def uuid_of(kind: int) -> str:
    """Return SQL for an id made from the account, the entry's number, and a kind."""
    if is_postgres():
        return (
            f"(lpad(to_hex(f.credit_account_id), 8, '0') || lpad(to_hex(s.n), 8, '0') "
            f"|| lpad('{kind}', 16, '0'))::uuid"
        )
    return f"printf('%08x%08x%016d', f.credit_account_id, s.n, {kind})"


# A reply has the id of the hold that paid for it.
HOLD, USER = 1, 2


def copy_turns() -> None:
    """Copy hold, entry, and both messages of each account's first charge, once for each number."""
    joined = "first_charge f CROSS JOIN numbers s"
    copy_rows(
        "billing_hold",
        f"billing_hold t JOIN {joined} ON t.id = f.hold_id",
        {"id": uuid_of(HOLD)},
    )
    copy_rows(
        "billing_ledgerentry",
        f"billing_ledgerentry t JOIN {joined} ON t.id = f.id",
        {
            "id": None,
            "sequence": "s.n",
            "balance_after_microcredits": (
                "f.balance_after_microcredits - (s.n - 2) * f.amount_microcredits"
            ),
            "hold_id": uuid_of(HOLD),
        },
    )
    for role, place, kind in (("user", "2 * s.n - 4", USER), ("assistant", "2 * s.n - 3", HOLD)):
        source = (
            "conversations_message a JOIN conversations_message t "
            f"ON t.session_id = a.session_id AND t.role = '{role}' "
            f"JOIN {joined} ON a.id = f.hold_id"
        )
        copy_rows("conversations_message", source, {"id": uuid_of(kind), "position": place})


def copy_rows(table: str, source: str, changed: Mapping[str, str | None]) -> None:
    """Insert rows of a table that equal `t` except for the changed columns.

    A column changed to None is left to the database.
    """
    model = next(model for model in apps.get_models() if model._meta.db_table == table)
    columns = [str(field.column) for field in model._meta.concrete_fields]
    columns = [column for column in columns if changed.get(column, "") is not None]
    values = [changed.get(column) or f"t.{column}" for column in columns]
    execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {source}")


def carry_sums(last: int) -> None:
    """Update balances and the counts of entries, messages, and days to include the copies."""
    more = last - 2
    charged = (
        f"{more} * (SELECT f.amount_microcredits FROM first_charge f "
        "WHERE f.credit_account_id = billing_creditaccount.account_id)"
    )
    execute(
        f"UPDATE billing_creditaccount SET entry_count = entry_count + {more}, "
        f"balance_microcredits = balance_microcredits - {charged}, "
        f"spent_microcredits = spent_microcredits + {charged}"
    )
    execute(f"UPDATE conversations_chatsession SET message_count = message_count + {2 * more}")
    execute(f"UPDATE billing_dailyusage SET message_count = message_count + {more}")


# --- Faults -------------------------------------------------------------------------------------


def quoted(uuid: Any) -> str:
    """Return an id as each database stores it."""
    return f"'{uuid}'" if is_postgres() else "'" + str(uuid).replace("-", "") + "'"


class Undone(Exception):
    """Rolls an injected fault back."""


def inject(order: dict[str, Any]) -> dict[str, Any]:
    """Inject each fault alone, run `verifyledger`, undo it. Returns what was found and missed."""
    ids = Ids(order)
    found: list[str] = []
    missed: list[str] = []
    without_effect: list[str] = []
    for fault in FAULTS:
        if fault.is_for_postgres and not is_postgres():
            continue
        changed, differences = try_fault(fault, ids)
        if not changed:
            without_effect.append(fault.name)
        (found if differences else missed).append(fault.name)
    return {"found": found, "missed": missed, "without_effect": without_effect}


class Ids:
    """The rows that faults damage, by name, as SQL."""

    def __init__(self, order: dict[str, Any]) -> None:
        account = order["account_id"]
        entries = f"FROM billing_ledgerentry WHERE credit_account_id = {account}"
        hold = (
            f"(SELECT id FROM billing_hold WHERE account_id = {account} AND state = '%s' LIMIT 1)"
        )
        message = "(SELECT {0} FROM conversations_message WHERE {1})"
        self.values = {
            "account": str(account),
            "other_account": str(order["other_account_id"]),
            "poor_account": str(order["poor_account_id"]),
            "channel": quoted(order["channel_id"]),
            "other_channel": quoted(order["other_channel_id"]),
            "first_entry": f"(SELECT MIN(id) {entries})",
            "entry": f"(SELECT MIN(id) {entries} AND kind = 'charge')",
            "last_entry": f"(SELECT MAX(id) {entries} AND kind = 'charge')",
            "next_sequence": f"(SELECT MAX(sequence) + 1 {entries})",
            "hold": quoted(
                fetch_value(f"SELECT hold_id {entries} AND kind = 'charge' ORDER BY id")
            ),
            "open_hold": hold % "held",
            "released_hold": hold % "released",
            "session": message.format("session_id", "id = {hold}"),
            "user_message": message.format("id", "session_id = {session} AND position = 0"),
            "new_id": "gen_random_uuid()" if is_postgres() else "lower(hex(randomblob(16)))",
            "no_id": "CAST(NULL AS uuid)" if is_postgres() else "NULL",
        }

    def fill(self, statement: str) -> str:
        while "{" in statement:
            statement = statement.format_map(self.values)
        return statement


def try_fault(fault: Fault, ids: Ids) -> tuple[int, int]:
    """Return how many rows a fault changed, and how many differences were found."""
    changed = differences = 0
    try:
        with unguarded():
            for statement in fault.statements:
                if statement.startswith("COPY "):
                    _, table, where, *changes = statement.split("|")
                    changed += copy_row(table, ids.fill(where), [ids.fill(c) for c in changes])
                else:
                    changed += execute(ids.fill(statement))
            differences = count_differences()
            raise Undone
    except Undone:
        return changed, differences


def copy_row(table: str, where: str, changes: list[str]) -> int:
    """Insert a second row like the one at `where`, with `column=value` changed."""
    changed: dict[str, str | None] = {}
    for change in changes:
        column, _, to = change.partition("=")
        changed[column] = to
    if table == "billing_ledgerentry":
        changed["id"] = None
    before = fetch_value(f"SELECT COUNT(*) FROM {table}")
    copy_rows(table, f"{table} t WHERE {where}", changed)
    return int(fetch_value(f"SELECT COUNT(*) FROM {table}")) - int(before)


@contextmanager
def unguarded() -> Iterator[None]:
    """Open a transaction with the database's own guards switched off."""
    with transaction.atomic():
        if is_postgres():
            execute("SET LOCAL session_replication_role = replica")
            table = "ALTER TABLE billing_ledgerentry "
            execute(table + "DROP CONSTRAINT billing_ledgerentry_sequence_unique")
        else:
            for deed in ("update", "delete", "replace"):
                execute(f"DROP TRIGGER billing_ledgerentry_no_{deed}")
        yield


def count_differences() -> int:
    output = StringIO()
    try:
        call_command("verifyledger", "--json", stdout=output)
    except SystemExit as ended:
        if ended.code != 1:
            raise
    return int(json.loads(output.getvalue())["differences"])

"""The database itself refuses to change or delete ledger entries."""

from django.db import migrations

SQLITE = [
    """
    CREATE TRIGGER IF NOT EXISTS billing_ledgerentry_no_update
    BEFORE UPDATE ON billing_ledgerentry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never changed: append a correcting one'); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS billing_ledgerentry_no_delete
    BEFORE DELETE ON billing_ledgerentry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never deleted: append a correcting one'); END
    """,
]
POSTGRESQL = [
    """
    CREATE OR REPLACE FUNCTION billing_refuse_ledger_change() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'ledger entries are never changed: append a correcting one'
            USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER billing_ledgerentry_no_change
    BEFORE UPDATE OR DELETE ON billing_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_ledger_change()
    """,
    """
    CREATE OR REPLACE TRIGGER billing_ledgerentry_no_truncate
    BEFORE TRUNCATE ON billing_ledgerentry
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_ledger_change()
    """,
]
UNDO = {
    "sqlite": [
        "DROP TRIGGER IF EXISTS billing_ledgerentry_no_update",
        "DROP TRIGGER IF EXISTS billing_ledgerentry_no_delete",
    ],
    "postgresql": ["DROP FUNCTION IF EXISTS billing_refuse_ledger_change CASCADE"],
}


def create_triggers(apps, schema_editor):
    for statement in {"sqlite": SQLITE, "postgresql": POSTGRESQL}[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop_triggers(apps, schema_editor):
    for statement in UNDO[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_create_tables")]

    operations = [migrations.RunPython(create_triggers, drop_triggers)]

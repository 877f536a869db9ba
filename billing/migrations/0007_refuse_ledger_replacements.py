"""SQLite's INSERT OR REPLACE deletes the old row without firing its trigger: refuse that too."""

from django.db import migrations

# One condition for every unique column by which a new row could replace an older one.
CREATE = """
CREATE TRIGGER IF NOT EXISTS billing_ledgerentry_no_replace
BEFORE INSERT ON billing_ledgerentry
WHEN EXISTS (SELECT 1 FROM billing_ledgerentry WHERE id = NEW.id)
  OR EXISTS (SELECT 1 FROM billing_ledgerentry WHERE hold_id = NEW.hold_id)
  OR EXISTS (SELECT 1 FROM billing_ledgerentry
              WHERE credit_account_id = NEW.credit_account_id AND sequence = NEW.sequence)
  OR EXISTS (SELECT 1 FROM billing_ledgerentry
              WHERE credit_account_id = NEW.credit_account_id AND reference = NEW.reference)
BEGIN SELECT RAISE(ABORT, 'ledger entries are never replaced: append a correcting one'); END
"""


def create_trigger(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(CREATE)


def drop_trigger(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER IF EXISTS billing_ledgerentry_no_replace")


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_sums_without_charges")]

    operations = [migrations.RunPython(create_trigger, drop_trigger)]

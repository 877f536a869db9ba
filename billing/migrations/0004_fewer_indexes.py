"""Fewer indexes on what each message writes: drops those covered by another index or unused.

By name instead of by field, because Django would rebuild the tables on SQLite, and the ledger would
lose the triggers that guard it.
"""

import django.db.models.deletion
from django.db import migrations, models

INDEXES = {
    "billing_dailyusage_channel_id_617570db": "billing_dailyusage (channel_id)",
    "billing_hold_account_id_56c002f9": "billing_hold (account_id)",
    "billing_hold_channel_id_92108ea8": "billing_hold (channel_id)",
    "billing_ledgerentry_credit_account_id_de8d2333": "billing_ledgerentry (credit_account_id)",
    "billing_ratewindow_channel_id_98c2498f": "billing_ratewindow (channel_id)",
}
REFERENCE = "billing_ledgerentry_reference_unique"


def leave_charges_out(apps, schema_editor):
    """Make the unique index of references partial. The rule stays the same."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"ALTER TABLE billing_ledgerentry DROP CONSTRAINT {REFERENCE}")
        schema_editor.execute(
            f"CREATE UNIQUE INDEX {REFERENCE} ON billing_ledgerentry (credit_account_id, reference)"
            " WHERE reference IS NOT NULL"
        )


def take_charges_in(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX {REFERENCE}")
        schema_editor.execute(
            f"ALTER TABLE billing_ledgerentry ADD CONSTRAINT {REFERENCE}"
            " UNIQUE (credit_account_id, reference)"
        )


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_redemption_codes"), ("channels", "0006_routehealth_alerted")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                *[
                    migrations.RunSQL(
                        f'DROP INDEX IF EXISTS "{name}"', f'CREATE INDEX "{name}" ON {columns}'
                    )
                    for name, columns in INDEXES.items()
                ],
                migrations.RunPython(leave_charges_out, take_charges_in),
            ],
            state_operations=[
                migrations.RemoveConstraint(model_name="ledgerentry", name=REFERENCE),
                migrations.AlterField(
                    model_name="dailyusage",
                    name="channel",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="daily_usage",
                        to="channels.channel",
                    ),
                ),
                migrations.AlterField(
                    model_name="hold",
                    name="account",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="holds",
                        to="channels.account",
                    ),
                ),
                migrations.AlterField(
                    model_name="hold",
                    name="channel",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="holds",
                        to="channels.channel",
                    ),
                ),
                migrations.AlterField(
                    model_name="ledgerentry",
                    name="credit_account",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="billing.creditaccount",
                    ),
                ),
                migrations.AlterField(
                    model_name="ratewindow",
                    name="channel",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="channels.channel",
                    ),
                ),
                migrations.AddConstraint(
                    model_name="ledgerentry",
                    constraint=models.UniqueConstraint(
                        condition=models.Q(("reference__isnull", False)),
                        fields=("credit_account", "reference"),
                        name=REFERENCE,
                    ),
                ),
            ],
        )
    ]

"""Fewer constraints on what each message writes: drops those implied by another one (0023).

By name, and only on PostgreSQL: on SQLite Django would rebuild the tables. They keep their
constraints there, which cost nothing.
"""

import django.db.models.deletion
from django.db import migrations, models

CONSTRAINTS = {
    "billing_hold": {
        "billing_hold_account_id_56c002f9_fk_channels_account_id": (
            "FOREIGN KEY (account_id) REFERENCES channels_account (id)"
            " DEFERRABLE INITIALLY DEFERRED"
        ),
        "billing_hold_channel_id_92108ea8_fk_channels_channel_id": (
            "FOREIGN KEY (channel_id) REFERENCES channels_channel (id)"
            " DEFERRABLE INITIALLY DEFERRED"
        ),
        "billing_hold_amount_not_negative": "CHECK (amount_microcredits >= 0)",
    },
    "billing_creditaccount": {"billing_creditaccount_warned_check": "CHECK (warned >= 0)"},
}


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table, names in CONSTRAINTS.items():
            for name in names:
                schema_editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")


def add(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table, names in CONSTRAINTS.items():
            for name, rule in names.items():
                schema_editor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {rule}")


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_fewer_indexes"),
        ("channels", "0007_catalogue_version"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop, add)],
            state_operations=[
                migrations.RemoveConstraint(
                    model_name="hold", name="billing_hold_amount_not_negative"
                ),
                migrations.AlterField(
                    model_name="creditaccount",
                    name="warned",
                    field=models.SmallIntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name="dailyusage",
                    name="channel",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="daily_usage",
                        to="channels.channel",
                    ),
                ),
                migrations.AlterField(
                    model_name="hold",
                    name="account",
                    field=models.ForeignKey(
                        db_constraint=False,
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
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="holds",
                        to="channels.channel",
                    ),
                ),
            ],
        )
    ]

"""Fewer constraints on what each message writes: those that another one implies (0023).

By name, and on PostgreSQL alone: on SQLite Django would rebuild the tables, so that they keep
theirs, which cost nothing there.
"""

import django.db.models.deletion
from django.db import migrations, models

CONSTRAINTS = {
    "conversations_message": {
        "conversations_messag_channel_id_9f8b2eeb_fk_channels_": (
            "FOREIGN KEY (channel_id) REFERENCES channels_channel (id)"
            " DEFERRABLE INITIALLY DEFERRED"
        ),
        "conversations_messag_session_id_08d271eb_fk_conversat": (
            "FOREIGN KEY (session_id) REFERENCES conversations_chatsession (id)"
            " DEFERRABLE INITIALLY DEFERRED"
        ),
        "conversations_message_duration_ms_check": "CHECK (duration_ms >= 0)",
        "conversations_message_position_check": 'CHECK ("position" >= 0)',
        "conversations_message_prompt_version_check": "CHECK (prompt_version >= 0)",
    },
    "conversations_chatsession": {
        "conversations_chatsession_message_count_check": "CHECK (message_count >= 0)"
    },
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
        ("channels", "0007_catalogue_version"),
        ("conversations", "0004_fewer_indexes"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop, add)],
            state_operations=[
                migrations.AlterField(
                    model_name="chatsession",
                    name="message_count",
                    field=models.IntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name="message", name="position", field=models.IntegerField()
                ),
                migrations.AlterField(
                    model_name="message",
                    name="duration_ms",
                    field=models.IntegerField(default=0),
                ),
                migrations.AlterField(
                    model_name="message",
                    name="prompt_version",
                    field=models.IntegerField(db_default=0, default=0),
                ),
                migrations.AlterField(
                    model_name="message",
                    name="channel",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="messages",
                        to="channels.channel",
                    ),
                ),
                migrations.AlterField(
                    model_name="message",
                    name="session",
                    field=models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="messages",
                        to="conversations.chatsession",
                    ),
                ),
            ],
        )
    ]

"""Fewer indexes on messages: one that another begins with, and one nobody reads.

By name instead of by field: on SQLite Django would write the whole table anew.
"""

import django.db.models.deletion
from django.db import migrations, models

INDEXES = {
    "conversations_message_channel_id_9f8b2eeb": "conversations_message (channel_id)",
    "conversations_message_session_id_08d271eb": "conversations_message (session_id)",
}


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0006_routehealth_alerted"),
        ("conversations", "0003_usage_index_covers_figures"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    f'DROP INDEX IF EXISTS "{name}"', f'CREATE INDEX "{name}" ON {columns}'
                )
                for name, columns in INDEXES.items()
            ],
            state_operations=[
                migrations.AlterField(
                    model_name="message",
                    name="channel",
                    field=models.ForeignKey(
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

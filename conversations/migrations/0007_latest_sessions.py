"""One index of sessions by channel and latest activity, instead of one by each.

Lists read it channel by channel, and each turn writes one index less. By name instead of by field:
on SQLite Django would write the whole table anew.
"""

import django.db.models.deletion
from django.db import migrations, models

CHANNEL_INDEX = "conversations_chatsession_channel_id_ac14ad4c"


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0007_catalogue_version"),
        ("conversations", "0006_usage_rollups"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="chatsession",
            index=models.Index(
                fields=["channel", "last_message_at"], name="conversations_session_latest"
            ),
        ),
        migrations.RemoveIndex(model_name="chatsession", name="conversations_session_age"),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    f'DROP INDEX IF EXISTS "{CHANNEL_INDEX}"',
                    f'CREATE INDEX "{CHANNEL_INDEX}" ON conversations_chatsession (channel_id)',
                )
            ],
            state_operations=[
                migrations.AlterField(
                    model_name="chatsession",
                    name="channel",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sessions",
                        to="channels.channel",
                    ),
                )
            ],
        ),
    ]

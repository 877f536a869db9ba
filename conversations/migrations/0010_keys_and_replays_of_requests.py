"""The key that each request came with, replays, and failures by request id."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0021_provider_addresses_that_bear_a_path"),
        ("conversations", "0009_cached_and_reasoning_tokens"),
    ]

    operations = [
        migrations.CreateModel(
            name="ReplayedRequest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("is_test", models.BooleanField()),
                ("session_id", models.CharField(blank=True, max_length=255)),
                ("request_id", models.CharField(blank=True, max_length=128)),
                ("message_id", models.UUIDField(blank=True, null=True)),
                ("request_model", models.CharField(blank=True, max_length=100)),
                ("created_at", models.DateTimeField()),
                ("api_key_id", models.UUIDField(blank=True, null=True)),
                (
                    "channel",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="replayed_requests",
                        to="channels.channel",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["channel", "created_at"], name="conversations_replay_usage"
                    ),
                    models.Index(fields=["created_at"], name="conversations_replay_age"),
                    models.Index(
                        fields=["channel", "request_id"], name="conversations_replay_receipt"
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="failedrequest",
            name="api_key_id",
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="message",
            name="api_key_id",
            field=models.UUIDField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="failedrequest",
            index=models.Index(
                fields=["channel", "request_id"], name="conversations_failure_receipt"
            ),
        ),
    ]

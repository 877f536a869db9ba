"""Which saved reply a message is, and an index to count them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0037_saved_replies_without_normalized_question"),
        ("conversations", "0014_provider_days"),
    ]

    operations = [
        migrations.AddField(
            model_name="message",
            name="fixed_answer_id",
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("fixed_answer_id__isnull", False), ("is_test", False)),
                fields=["fixed_answer_id", "created_at"],
                name="conversations_message_saved",
            ),
        ),
    ]

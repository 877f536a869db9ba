"""Ratings are called liked and disliked; only the words of the choices change."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0007_latest_sessions"),
    ]

    operations = [
        migrations.AlterField(
            model_name="feedback",
            name="rating",
            field=models.SmallIntegerField(
                choices=[(-1, "Disliked"), (0, "Not rated"), (1, "Liked")], default=0
            ),
        ),
    ]

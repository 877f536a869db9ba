"""Outages that staff hear of, daily digests, and the choice of both."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0033_cost_and_credit_prices"),
    ]

    operations = [
        migrations.AddField(
            model_name="membership",
            name="digest_day",
            field=models.DateField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="user",
            name="mails_digests",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.AddField(
            model_name="user",
            name="mails_outages",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.AlterField(
            model_name="personmail",
            name="kind",
            field=models.CharField(
                choices=[
                    ("key", "New key"),
                    ("member", "New member"),
                    ("device", "Log-in from a new device"),
                    ("down", "A provider is down"),
                    ("up", "A provider is back"),
                    ("digest", "Daily digest"),
                ],
                max_length=6,
            ),
        ),
        migrations.CreateModel(
            name="Outage",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("provider_name", models.CharField(max_length=50)),
                ("provider_model", models.CharField(max_length=200)),
                ("began_at", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider_name", "provider_model"), name="channels_outage_unique"
                    )
                ],
            },
        ),
    ]

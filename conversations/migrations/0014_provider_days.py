"""Sums of replies by day, provider and model."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0013_draft_failures"),
    ]

    operations = [
        migrations.AddField(
            model_name="rollupprogress",
            name="providers_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.CreateModel(
            name="ProviderDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                ("provider_name", models.CharField(blank=True, max_length=50)),
                ("request_model", models.CharField(blank=True, max_length=100)),
                ("request_count", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("cached_input_tokens", models.BigIntegerField()),
                ("charged_microcredits", models.BigIntegerField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("day", "provider_name", "request_model"),
                        name="conversations_providerday_unique",
                    )
                ],
            },
        ),
    ]

"""What providers charge for tokens, and what a credit is sold for."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0032_channel_tags"),
    ]

    operations = [
        migrations.CreateModel(
            name="CreditPrice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "starts_on",
                    models.DateField(
                        error_messages={"unique": "There is a price from that day."},
                        unique=True,
                        verbose_name="from (UTC day)",
                    ),
                ),
                ("price_micros", models.PositiveBigIntegerField()),
            ],
            options={
                "ordering": ["-starts_on"],
            },
        ),
        migrations.CreateModel(
            name="CostPrice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("provider_name", models.CharField(max_length=50, verbose_name="provider")),
                ("model_id", models.CharField(max_length=100, verbose_name="model")),
                ("starts_on", models.DateField(verbose_name="from (UTC day)")),
                ("input_price_micros", models.PositiveBigIntegerField()),
                ("output_price_micros", models.PositiveBigIntegerField()),
                (
                    "cached_input_price_micros",
                    models.PositiveBigIntegerField(blank=True, null=True),
                ),
            ],
            options={
                "ordering": ["provider_name", "model_id", "-starts_on"],
                "permissions": [("view_margins", "Can view margins")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider_name", "model_id", "starts_on"),
                        name="channels_costprice_unique",
                        violation_error_message="This provider and model have a price from that day.",
                    )
                ],
            },
        ),
    ]

"""Which secrets the database needs, and who still uses the password that set-up chose."""

from django.db import migrations, models

_ID = {"db_default": "", "default": "", "editable": False}


class Migration(migrations.Migration):
    dependencies = [("channels", "0010_routehealth_probes")]

    operations = [
        migrations.CreateModel(
            name="SecretCheck",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("setting", models.CharField(max_length=40)),
                ("name", models.CharField(max_length=32)),
                ("check_value", models.CharField(max_length=64)),
                ("encryptions", models.BigIntegerField(db_default=0, default=0)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("setting", "name"), name="channels_secretcheck_unique"
                    )
                ]
            },
        ),
        migrations.AddField(
            "user",
            "has_first_password",
            models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.AddField("apikey", "pepper_id", models.CharField(max_length=12, **_ID)),
        migrations.AddField("invitation", "pepper_id", models.CharField(max_length=12, **_ID)),
        migrations.AddField(
            "invitation", "encryption_key_id", models.CharField(max_length=32, **_ID)
        ),
        migrations.AddField(
            "invitation", "secret_ciphertext", models.BinaryField(editable=False, null=True)
        ),
    ]

"""Columns that replace a redemption code's plain text."""

from django.db import migrations, models

_TEXT = {"db_default": "", "default": "", "editable": False}


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_refuse_ledger_replacements")]

    operations = [
        # The same column, which still holds the plain text until the next migration.
        migrations.RenameField("redemptioncode", "code", "code_digest"),
        migrations.AlterField(
            "redemptioncode",
            "code_digest",
            models.CharField(editable=False, max_length=64, unique=True),
        ),
        migrations.AddField(
            "redemptioncode", "pepper_id", models.CharField(max_length=12, **_TEXT)
        ),
        migrations.AddField(
            "redemptioncode", "encryption_key_id", models.CharField(max_length=32, **_TEXT)
        ),
        migrations.AddField(
            "redemptioncode", "code_last_four", models.CharField(max_length=4, **_TEXT)
        ),
        migrations.AddField(
            "redemptioncode", "code_ciphertext", models.BinaryField(editable=False, null=True)
        ),
    ]

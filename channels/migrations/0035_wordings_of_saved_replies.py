"""Wordings of saved replies. The question's normalized text moves there in the next migrations."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("channels", "0034_outages_and_digests")]

    operations = [
        migrations.CreateModel(
            name="Wording",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("text", models.CharField(max_length=500)),
                ("normalized", models.CharField(editable=False, max_length=500)),
                (
                    "channel",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="channels.channel",
                    ),
                ),
                (
                    "fixed_answer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="wordings",
                        to="channels.fixedanswer",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["channel", "normalized"], name="channels_wording_unique"
                    )
                ],
            },
        ),
        migrations.RemoveConstraint(model_name="fixedanswer", name="channels_fixedanswer_unique"),
        # Null on the way back, until the next migration has filled it again.
        migrations.AlterField(
            model_name="fixedanswer",
            name="question_normalized",
            field=models.CharField(editable=False, max_length=500, null=True),
        ),
    ]

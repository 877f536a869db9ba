"""Parameters that staff allow for a route, beside those the gateway knows.

In SQL, which both databases understand: on SQLite, Django would write the table again, and lose the
triggers of migration 0007 with it.
"""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("channels", "0016_overlaps_are_expiries")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE channels_route ADD COLUMN allowed_parameters text DEFAULT '' NOT NULL",
            "ALTER TABLE channels_route DROP COLUMN allowed_parameters",
            state_operations=[
                migrations.AddField(
                    model_name="route",
                    name="allowed_parameters",
                    field=models.TextField(
                        blank=True,
                        db_default="",
                        default="",
                        help_text="Names that callers of /v1 may send to this route, separated by "
                        "spaces, as in repeat_last_n mirostat. The API's page lists those that "
                        "need no entry here; what it refuses with a reason stays refused.",
                        max_length=1000,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[A-Za-z_]\\w*( [A-Za-z_]\\w*)*$",
                                "Write names of letters, digits and _, with one space between two.",
                            )
                        ],
                        verbose_name="parameters allowed beside the known ones",
                    ),
                ),
            ],
        ),
    ]

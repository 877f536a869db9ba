"""While an update rolls, a process of the release before 0009 creates accounts without this column."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("channels", "0038_user_language")]
    operations = [
        migrations.AlterField(
            model_name="account",
            name="requires_second_factor",
            field=models.BooleanField(db_default=False, default=False),
        )
    ]

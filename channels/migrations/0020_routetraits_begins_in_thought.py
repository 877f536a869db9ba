"""Routes whose answers begin within a thought.

Null where nobody knows: SQLite adds such a column without building the table again, which triggers
of other tables name (migration 0019).
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("channels", "0019_route_traits_and_thinking_models")]

    operations = [
        migrations.AddField(
            model_name="routetraits",
            name="begins_in_thought",
            field=models.BooleanField(blank=True, null=True),
        ),
    ]

"""The normalized question of a saved reply is now in its first wording.

The column stays, nullable since 0035, because processes of the release before still read it while an
update rolls. A later release may drop it.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("channels", "0036_first_wordings")]
    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name="fixedanswer", name="question_normalized")
            ]
        )
    ]

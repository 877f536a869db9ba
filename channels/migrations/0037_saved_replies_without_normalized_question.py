"""The normalized question of a saved reply is now in its first wording."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("channels", "0036_first_wordings")]
    operations = [migrations.RemoveField(model_name="fixedanswer", name="question_normalized")]

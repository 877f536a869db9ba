"""Users made before people could sign up were made by the operator: their addresses count as proven."""

from django.conf import settings
from django.db import migrations


def count_as_proven(apps, schema_editor):
    User = apps.get_model(settings.AUTH_USER_MODEL)
    EmailAddress = apps.get_model("account", "EmailAddress")
    known = EmailAddress.objects.values("user_id")
    batch = []
    for user_id, email in User.objects.exclude(id__in=known).values_list("id", "email").iterator():
        batch.append(
            EmailAddress(user_id=user_id, email=email.lower(), verified=True, primary=True)
        )
        if len(batch) == 500:
            EmailAddress.objects.bulk_create(batch, ignore_conflicts=True)
            batch = []
    EmailAddress.objects.bulk_create(batch, ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0004_first_prompt_versions"),
        ("account", "0009_emailaddress_unique_primary_email"),
    ]
    operations = [migrations.RunPython(count_as_proven, migrations.RunPython.noop)]

"""A rotated key's last moment becomes its expiry; `revoked_at` then always means revoked already."""

from django.db import migrations
from django.db.models import F, Q
from django.utils import timezone


def move_overlaps(apps, schema_editor):
    ending = apps.get_model("channels", "ApiKey").objects.filter(revoked_at__gt=timezone.now())
    ids = list(ending.values_list("id", flat=True))
    keys = apps.get_model("channels", "ApiKey").objects.filter(id__in=ids)
    later = Q(expires_at=None) | Q(expires_at__gt=F("revoked_at"))
    keys.filter(later).update(expires_at=F("revoked_at"))
    keys.update(revoked_at=None)


class Migration(migrations.Migration):
    dependencies = [("channels", "0015_provider_names_not_reserved")]

    # On the way back nothing is to be done: an expiry was believed before as well.
    operations = [migrations.RunPython(move_overlaps, migrations.RunPython.noop)]

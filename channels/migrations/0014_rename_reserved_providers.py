"""Rows named like the gateway's own answers get another name, before 0015 refuses such names."""

from django.db import migrations

RESERVED = ["default", "demo", "fixed", "simulated"]


def rename_taken(apps, schema_editor):
    """Give rows from before another name; the routes of each go on as they are."""
    providers = apps.get_model("channels", "Provider").objects
    for provider in providers.filter(name__in=RESERVED):
        number = 2
        while providers.filter(name=f"{provider.name}-{number}").exists():
            number += 1
        provider.name = f"{provider.name}-{number}"
        provider.save(update_fields=["name"])


class Migration(migrations.Migration):
    dependencies = [("channels", "0013_plan_bounds")]

    operations = [migrations.RunPython(rename_taken, migrations.RunPython.noop)]

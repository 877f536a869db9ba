"""Marks the seeded models that their first provider has retired (migration 0002)."""

from django.db import migrations

RETIRED = (
    "llama-3.1-70b-versatile",
    "llama-3.2-90b-vision-preview",
    "mixtral-8x7b-32768",
    "gemma2-9b-it",
)


def mark(apps, schema_editor):
    models = apps.get_model("channels", "LanguageModel").objects
    models.filter(model_id__in=RETIRED).update(is_retired_upstream=True)


def unmark(apps, schema_editor):
    models = apps.get_model("channels", "LanguageModel").objects
    models.filter(model_id__in=RETIRED).update(is_retired_upstream=False)


class Migration(migrations.Migration):
    dependencies = [("channels", "0022_life_of_models")]

    operations = [migrations.RunPython(mark, unmark)]

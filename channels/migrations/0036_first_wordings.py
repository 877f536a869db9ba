"""Every saved reply's question becomes its first wording."""

from django.db import migrations
from django.db.models import OuterRef, Subquery


def make_first_wordings(apps, schema_editor):
    FixedAnswer = apps.get_model("channels", "FixedAnswer")
    Wording = apps.get_model("channels", "Wording")
    rows = FixedAnswer.objects.filter(wordings=None).order_by("pk")
    names = ("id", "channel_id", "question", "question_normalized")
    batch = []
    for pk, channel_id, question, normalized in rows.values_list(*names).iterator(chunk_size=500):
        batch.append(
            Wording(fixed_answer_id=pk, channel_id=channel_id, text=question, normalized=normalized)
        )
        if len(batch) == 500:
            Wording.objects.bulk_create(batch)
            batch = []
    Wording.objects.bulk_create(batch)


def take_back_first_wordings(apps, schema_editor):
    first = apps.get_model("channels", "Wording").objects.filter(fixed_answer=OuterRef("pk"))
    first = first.order_by("id").values("normalized")[:1]
    apps.get_model("channels", "FixedAnswer").objects.update(question_normalized=Subquery(first))


class Migration(migrations.Migration):
    dependencies = [("channels", "0035_wordings_of_saved_replies")]
    operations = [migrations.RunPython(make_first_wordings, take_back_first_wordings)]

"""Every channel's present prompt becomes its version 1."""

from django.db import migrations


def keep_present_prompts(apps, schema_editor):
    Channel = apps.get_model("channels", "Channel")
    PromptVersion = apps.get_model("channels", "PromptVersion")
    rows = Channel.objects.filter(prompt_versions=None).values_list("id", "system_prompt")
    batch = []
    for channel_id, text in rows.iterator(chunk_size=500):
        batch.append(PromptVersion(channel_id=channel_id, number=1, text=text))
        if len(batch) == 500:
            PromptVersion.objects.bulk_create(batch)
            batch = []
    PromptVersion.objects.bulk_create(batch)


class Migration(migrations.Migration):
    dependencies = [("channels", "0003_prompt_versions_audit_invitations")]
    operations = [migrations.RunPython(keep_present_prompts, migrations.RunPython.noop)]

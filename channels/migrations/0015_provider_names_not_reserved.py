"""The names of the gateway's own answers are taken: no row may have one, whoever writes it.

SQLite makes the table again for a new constraint, and loses its triggers with the old one: those
of 0007 are created again.
"""

from django.db import migrations, models

RESERVED = ["default", "demo", "fixed", "simulated"]


NEW_MARK = """
    CREATE TRIGGER IF NOT EXISTS channels_provider_{name}_new_mark
    AFTER {event} ON channels_provider BEGIN
    INSERT INTO channels_catalogueversion (id, mark) VALUES (1, lower(hex(randomblob(16))))
    ON CONFLICT (id) DO UPDATE SET mark = excluded.mark; END
    """


def create_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        for event in ("INSERT", "UPDATE", "DELETE"):
            schema_editor.execute(NEW_MARK.format(name=event.lower(), event=event))


class Migration(migrations.Migration):
    dependencies = [("channels", "0014_rename_reserved_providers")]

    operations = [
        # Also on the way back, where it runs last.
        migrations.RunPython(migrations.RunPython.noop, create_triggers),
        migrations.AddConstraint(
            model_name="provider",
            constraint=models.CheckConstraint(
                condition=models.Q(("name__in", RESERVED), _negated=True),
                name="channels_provider_name_not_reserved",
                violation_error_message="This is a name of the gateway's own; choose another.",
            ),
        ),
        migrations.RunPython(create_triggers, migrations.RunPython.noop),
    ]

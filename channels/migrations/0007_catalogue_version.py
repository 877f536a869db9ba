"""A mark that changes with every provider and route, whoever changes them.

Triggers, so that nothing can change them and forget to say so: each process keeps what it has
read of them for as long as the mark stays (channels/routes.py). The mark is random: one that
counts could come back after a table was emptied.
"""

from django.db import migrations, models

TABLES = ["channels_provider", "channels_route"]
NEW_MARK = (
    "INSERT INTO channels_catalogueversion (id, mark) VALUES (1, {mark}) "
    "ON CONFLICT (id) DO UPDATE SET mark = excluded.mark"
)
ON_SQLITE = NEW_MARK.format(mark="lower(hex(randomblob(16)))")
ON_POSTGRESQL = NEW_MARK.format(mark="gen_random_uuid()::text")


def sqlite_triggers():
    for table in TABLES:
        for event in ("INSERT", "UPDATE", "DELETE"):
            yield f"""
                CREATE TRIGGER IF NOT EXISTS {table}_{event.lower()}_new_mark
                AFTER {event} ON {table} BEGIN {ON_SQLITE}; END
                """


def postgresql_triggers():
    yield f"""
        CREATE OR REPLACE FUNCTION channels_new_catalogue_mark() RETURNS trigger
        LANGUAGE plpgsql AS $$ BEGIN {ON_POSTGRESQL}; RETURN NULL; END $$
        """
    for table in TABLES:
        yield f"""
            CREATE OR REPLACE TRIGGER {table}_new_mark
            AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION channels_new_catalogue_mark()
            """


def create_triggers(apps, schema_editor):
    triggers, first = {
        "sqlite": (sqlite_triggers, ON_SQLITE),
        "postgresql": (postgresql_triggers, ON_POSTGRESQL),
    }[schema_editor.connection.vendor]
    for statement in (*triggers(), first):
        schema_editor.execute(statement)


def drop_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION IF EXISTS channels_new_catalogue_mark CASCADE")
        return
    for table in TABLES:
        for event in ("insert", "update", "delete"):
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_{event}_new_mark")


class Migration(migrations.Migration):
    dependencies = [("channels", "0006_routehealth_alerted")]

    operations = [
        migrations.CreateModel(
            name="CatalogueVersion",
            fields=[
                ("id", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ("mark", models.CharField(max_length=36)),
            ],
        ),
        migrations.RunPython(create_triggers, drop_triggers),
    ]

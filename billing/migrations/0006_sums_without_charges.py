"""Index the few ledger entries that change the balance but are not charges.

Creating an index does not rebuild the ledger on SQLite either, so its triggers stay. On PostgreSQL
nothing can be charged while the ledger is read for it, once from end to end.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_fewer_constraints")]

    operations = [
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(
                condition=models.Q(("kind__in", ("absorbed", "charge")), _negated=True),
                fields=["credit_account", "sequence"],
                name="billing_ledgerentry_no_charges",
            ),
        ),
    ]

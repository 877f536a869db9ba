"""A table of the requests for credits."""

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0010_spend_caps"),
        ("channels", "0021_provider_addresses_that_bear_a_path"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="CreditRequest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("amount_microcredits", models.BigIntegerField()),
                ("note", models.CharField(blank=True, max_length=500)),
                ("token", models.UUIDField(default=uuid.uuid4, editable=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("approved", "Approved"),
                            ("declined", "Declined"),
                            ("withdrawn", "Withdrawn"),
                        ],
                        default="open",
                        max_length=9,
                    ),
                ),
                ("decision_reason", models.CharField(blank=True, max_length=200)),
                ("granted_microcredits", models.BigIntegerField(null=True)),
                (
                    "unsent_mail",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", "None"),
                            ("staff", "To the staff"),
                            ("asker", "To the asker"),
                        ],
                        max_length=5,
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField(null=True)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="credit_requests",
                        to="channels.account",
                    ),
                ),
                (
                    "asked_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "decided_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "entry",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="credit_request",
                        to="billing.ledgerentry",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("unsent_mail", ""), _negated=True),
                        fields=["id"],
                        name="billing_creditrequest_unsent",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "open")),
                        fields=("account",),
                        name="billing_creditrequest_one_open",
                    ),
                    models.UniqueConstraint(
                        fields=("account", "token"), name="billing_creditrequest_token_unique"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("amount_microcredits__gt", 0)),
                        name="billing_creditrequest_positive",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("granted_microcredits__gt", 0), ("state", "approved")),
                            models.Q(
                                models.Q(("state", "approved"), _negated=True),
                                ("entry", None),
                                ("granted_microcredits", None),
                            ),
                            _connector="OR",
                        ),
                        name="billing_creditrequest_granted_if_approved",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("decided_at", None), ("state", "open")),
                            models.Q(
                                models.Q(("state", "open"), _negated=True),
                                ("decided_at__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="billing_creditrequest_decided_or_open",
                    ),
                ],
            },
        ),
    ]

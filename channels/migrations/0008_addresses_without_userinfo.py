"""An address on a page, in a log or a mail shows no user and password."""

import django.core.validators
from django.db import migrations, models

import channels.models


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0007_catalogue_version"),
    ]

    operations = [
        migrations.AlterField(
            model_name="channel",
            name="site_url",
            field=models.CharField(
                blank=True,
                max_length=200,
                validators=[
                    django.core.validators.URLValidator(schemes=["http", "https"]),
                    channels.models.refuse_userinfo,
                ],
                verbose_name="site address",
            ),
        ),
        migrations.AlterField(
            model_name="provider",
            name="base_url",
            field=models.CharField(
                help_text="Up to and with /v1, as in https://api.groq.com/openai/v1",
                max_length=200,
                validators=[
                    django.core.validators.URLValidator(schemes=["http", "https"]),
                    channels.models.refuse_userinfo,
                ],
            ),
        ),
    ]

"""Records which secrets of the settings this database was written with."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class SecretCheck(models.Model):
    """A check value of one secret that rows need (channels/secret_checks.py), not the secret."""

    setting = models.CharField(max_length=40)
    # The id of an encryption key or a pepper.
    name = models.CharField(max_length=32)
    check_value = models.CharField(max_length=64)
    # How often an encryption key was used, accurate to about 1 % once it matters.
    encryptions = models.BigIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["setting", "name"], name="channels_secretcheck_unique")
        ]

    def __str__(self) -> str:
        return f"{self.setting} {self.name}"

"""Outages of routes that the staff have been told of."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Outage(models.Model):
    """A route that has been left out for long, from the e-mail that says so to the one of its end.

    The route's health (channels/breaker.py) is authoritative. This row only says who has been told.
    """

    provider_name = models.CharField(max_length=50)
    provider_model = models.CharField(max_length=200)
    began_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            # Of two tasks at once, only one creates the row, and only that one tells anybody.
            models.UniqueConstraint(
                fields=["provider_name", "provider_model"], name="channels_outage_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.provider_model} at {self.provider_name} since {self.began_at:%Y-%m-%d %H:%M}"

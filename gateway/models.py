"""State of the installation as a whole."""

from __future__ import annotations

from django.db import models


class Heartbeat(models.Model):
    """When a part of the installation last showed that it is alive (common/heartbeat.py)."""

    name = models.CharField(max_length=20, primary_key=True)
    beaten_at = models.DateTimeField()
    # On SQLite, /readyz writes as much here as a message writes, to detect a full disk.
    filler = models.BinaryField(null=True, editable=False)

    def __str__(self) -> str:
        return f"{self.name} at {self.beaten_at:%Y-%m-%d %H:%M:%S}"

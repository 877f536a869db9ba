"""The state behind the dashboard's log-in: sessions, devices, daily counts, and waiting e-mails."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models.people import Account, User


class LoginSession(AbstractBaseSession):
    """A browser's session and its user. dashboard/login/store.py reads and writes it."""

    # None: a visitor who has not logged in.
    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="login_sessions")
    logged_in_at = models.DateTimeField(default=timezone.now)
    # Written at most once a minute.
    last_seen_at = models.DateTimeField(default=timezone.now)
    address = models.CharField(max_length=45, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)

    class Meta(AbstractBaseSession.Meta):
        abstract = False
        verbose_name = _("log-in session")  # type: ignore[assignment]  # as in any Meta
        verbose_name_plural = _("log-in sessions")  # type: ignore[assignment]

    @classmethod
    def get_session_store_class(cls) -> Any:
        return import_string(f"{settings.SESSION_ENGINE}.SessionStore")

    def __str__(self) -> str:
        return gettext("%(user)s at %(address)s") % {
            "user": self.user or gettext("a visitor"),
            "address": self.address,
        }


class DailyCount(models.Model):
    """How often something was done on one UTC day for one person, address or account."""

    kind = models.CharField(max_length=40)
    # A keyed digest, because people who request an e-mail may type anything as the address.
    subject_digest = models.CharField(max_length=64)
    day = models.DateField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["day", "kind", "subject_digest"], name="channels_dailycount_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} on {self.day}: {self.count}"


class KnownDevice(models.Model):
    """A browser and network from which a person has logged in (dashboard/login/devices.py).

    Deleted 90 days after the last log-in from it.
    """

    user = models.ForeignKey(User, models.CASCADE, related_name="known_devices", db_index=False)
    # A keyed digest of the two, so that nobody can read from it where somebody was.
    digest = models.CharField(max_length=64)
    last_login_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "digest"], name="channels_knowndevice_unique")
        ]

    def __str__(self) -> str:
        return gettext("a device of %(user)s") % {"user": self.user_id}


class PersonMail(models.Model):
    """One line of an e-mail that the worker has yet to send (channels/person_mails.py)."""

    class Kind(models.TextChoices):
        NEW_KEY = "key", _("New key")
        NEW_MEMBER = "member", _("New member")
        NEW_DEVICE = "device", _("Log-in from a new device")
        OUTAGE = "down", _("A provider is down")
        RECOVERY = "up", _("A provider is back")
        DIGEST = "digest", _("Daily digest")

    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    kind = models.CharField(max_length=6, choices=Kind.choices)
    # None: it concerns the person's log-in, not one of their accounts.
    account = models.ForeignKey(Account, models.CASCADE, null=True, related_name="+")
    # One line, never a secret.
    line = models.CharField(max_length=500)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return gettext("%(kind)s for %(user)s") % {
            "kind": self.get_kind_display(),
            "user": self.user_id,
        }

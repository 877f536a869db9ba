"""The audit log: who did what, with the values before and after."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models.channel import Channel
from channels.models.people import Account, User


class AuditEntry(models.Model):
    """One action in the dashboard, the staff admin or on the command line. Never changed."""

    # None: an action that concerns the whole gateway, such as setting a provider's key.
    account = models.ForeignKey(Account, models.PROTECT, null=True, related_name="audit_entries")
    channel = models.ForeignKey(Channel, models.SET_NULL, null=True, related_name="+")
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    # The actor's e-mail address at the time. It outlives the user.
    actor_name = models.CharField(max_length=254)
    # Dotted and in the past tense, like log events: key.revealed, channel.updated.
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=200, blank=True)
    # {field: [before, after]}, never a secret.
    changes = models.JSONField(default=dict)
    address = models.CharField(max_length=45, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = _("audit entries")
        indexes: ClassVar = [
            models.Index(fields=["account", "-id"], name="channels_auditentry_account"),
        ]

    def __str__(self) -> str:
        return gettext("%(action)s by %(actor)s") % {
            "action": self.action,
            "actor": self.actor_name,
        }

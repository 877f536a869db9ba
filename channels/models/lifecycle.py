"""What happens to models over time: channels that moved, e-mails sent, and providers' own lists."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels.models.catalogue import LanguageModel
from channels.models.channel import Channel
from channels.models.people import Account


class ModelMove(models.Model):
    """A channel that the gateway moved to the successor of its model (channels/model_moves.py).

    One row for each end of a model, so that a channel that was moved back stays where it is.
    `is_fallback`: the model was the channel's fallback model.
    """

    channel = models.ForeignKey(Channel, models.CASCADE, related_name="model_moves")
    left = models.ForeignKey(LanguageModel, models.CASCADE, related_name="moves_away")
    entered = models.ForeignKey(LanguageModel, models.CASCADE, related_name="moves_here")
    is_fallback = models.BooleanField(default=False, db_default=False)
    ends_on = models.DateField()
    moved_at = models.DateTimeField()
    moved_back_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["channel", "left", "is_fallback", "ends_on"],
                name="channels_modelmove_unique",
            )
        ]

    def __str__(self) -> str:
        return gettext("%(channel)s from %(left)s to %(entered)s") % {
            "channel": self.channel,
            "left": self.left,
            "entered": self.entered,
        }


class ModelNotice(models.Model):
    """An e-mail about a model's end. The row comes first, so that each e-mail is sent once."""

    class Kind(models.TextChoices):
        FIRST = "first", _("30 days before")
        LAST = "last", _("7 days before")
        OVER = "over", _("on the day")

    model = models.ForeignKey(LanguageModel, models.CASCADE, related_name="notices")
    # None: to the operators.
    account = models.ForeignKey(Account, models.CASCADE, null=True, related_name="model_notices")
    kind = models.CharField(max_length=5, choices=Kind.choices)
    ends_on = models.DateField()
    sent_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model", "account", "kind", "ends_on"],
                name="channels_modelnotice_to_account",
            ),
            # NULLs are distinct, so the constraint above does not bound these.
            models.UniqueConstraint(
                fields=["model", "kind", "ends_on"],
                condition=Q(account=None),
                name="channels_modelnotice_to_operators",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model}: {self.get_kind_display()}"


class ProviderList(models.Model):
    """A provider's own list of its models, as last fetched (channels/provider_lists.py).

    Refers to the provider by name, because a provider may have no row. Applies only at the address
    where it was fetched.
    """

    provider_name = models.CharField(max_length=50, unique=True)
    base_url = models.CharField(max_length=500)
    # At most MOST_NAMES of them.
    names = models.JSONField(default=list)
    # Whether the provider listed more names than are kept.
    is_cut = models.BooleanField(default=False)
    # When `names` was fetched. None: never.
    fetched_at = models.DateTimeField(null=True, blank=True)
    tried_at = models.DateTimeField()
    # Why the last attempt failed. '' if it did not.
    error = models.CharField(max_length=50, blank=True)

    def __str__(self) -> str:
        return self.provider_name

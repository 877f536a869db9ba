"""What providers charge the operator, and what a credit is sold for, each from a day on.

Amounts are millionths of CURRENCY (common/currency.py). Days are UTC days.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class CostPrice(models.Model):
    """What a provider charges for a model's tokens, from a day until the next price's day.

    Names the provider and the model as replies do, so that a renamed or deleted one keeps its past.
    """

    provider_name = models.CharField(_("provider"), max_length=50)
    model_id = models.CharField(_("model"), max_length=100)
    starts_on = models.DateField(_("from (UTC day)"))
    input_price_micros = models.PositiveBigIntegerField()
    output_price_micros = models.PositiveBigIntegerField()
    # None: cached input costs as much as other input.
    cached_input_price_micros = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["provider_name", "model_id", "-starts_on"]
        permissions: ClassVar = [("view_margins", "Can view margins")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider_name", "model_id", "starts_on"],
                name="channels_costprice_unique",
                violation_error_message=_("This provider and model have a price from that day."),
            )
        ]

    def __str__(self) -> str:
        return gettext("%(model)s at %(provider)s from %(day)s") % {
            "model": self.model_id,
            "provider": self.provider_name,
            "day": self.starts_on,
        }


class CreditPrice(models.Model):
    """What one credit is sold for, from a day until the next price's day."""

    starts_on = models.DateField(
        _("from (UTC day)"),
        unique=True,
        error_messages={"unique": _("There is a price from that day.")},
    )
    price_micros = models.PositiveBigIntegerField()

    class Meta:
        ordering: ClassVar = ["-starts_on"]

    def __str__(self) -> str:
        return gettext("from %(day)s") % {"day": self.starts_on}

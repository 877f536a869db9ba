"""Staff pages for what providers charge and what a credit is sold for."""

from __future__ import annotations

from datetime import date
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from channels import cost_prices
from channels.admin.auditing import AuditedAdmin
from channels.models import CostPrice, CreditPrice, LanguageModel, Provider
from channels.routes import DEFAULT_PROVIDER
from common.pages.forms import CreditsField, DayField
from common.pages.numbers import local_credits

# A million of the currency, in millionths. Sums of tokens at any such price stay exact.
MOST_MICROS = 10**12
# As many as the columns hold.
_MOST_CHARACTERS = {"provider_name": 50, "model_id": 100}


class MoneyField(CreditsField):
    """An amount of the operator's currency with up to six decimals; its value is millionths."""

    def __init__(self, **options: Any) -> None:
        super().__init__(most=MOST_MICROS, widget=UnfoldAdminTextInputWidget(), **options)

    def clean(self, value: Any) -> Any:
        try:
            return super().clean(value)
        except forms.ValidationError as error:
            # One of several errors, such as those of validators, has no code.
            if getattr(error, "code", "") == "required":
                raise
            words = _("Enter an amount such as 0.15, with at most six decimals, up to 1,000,000.")
            raise forms.ValidationError(words) from None


class DatedPriceForm(ModelForm):
    """A price that counts from a day on. A new price leaves the past as it is."""

    starts_on = DayField(
        label=gettext_lazy("From (UTC day)"),
        widget=UnfoldAdminDateWidget(),
        help_text=gettext_lazy(
            "The price counts from the start of this day until the day of the next one."
        ),
    )
    is_correction = forms.BooleanField(
        required=False,
        label=gettext_lazy("Correct the past"),
        widget=UnfoldBooleanSwitchWidget(),
        help_text=gettext_lazy(
            "Only for mistakes: the margins of days that are over change too. If the price "
            "has changed, add a new one from tomorrow or later instead."
        ),
    )

    def others(self) -> QuerySet[Any]:
        """Return the other prices for the same thing."""
        found: QuerySet[Any] = self._meta.model.objects.exclude(pk=self.instance.pk)
        return found

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if self.errors or data.get("is_correction"):
            return data
        if cost_prices.changes_past(
            self.others(),
            old_day=self.initial.get("starts_on") if self.instance.pk else None,
            new_day=data["starts_on"],
            is_changed=self.has_changed(),
            today=timezone.now().date(),
        ):
            self.add_error(
                "starts_on" if not self.instance.pk else "is_correction",
                _(
                    "This changes the margins of days that are over, or of today. Add a price from "
                    "tomorrow or later, or switch on “Correct the past” to fix a mistake."
                ),
            )
        return data


def _names(known: list[tuple[str, str]], chosen: Any, *, most: int) -> list[tuple[str, str]]:
    """Return choices, and the chosen name even if it is not among them.

    Replies name providers and models that no longer exist, and the margins' page links here for
    each. PostgreSQL cannot store NUL.
    """
    others = []
    if isinstance(chosen, str) and 0 < len(chosen) <= most and "\x00" not in chosen:
        others = [] if chosen in dict(known) else [(chosen, chosen)]
    return [("", _("Choose one")), *known, *others]


class CostPriceForm(DatedPriceForm):
    """What a provider charges for a model's tokens."""

    provider_name = forms.ChoiceField(
        label=gettext_lazy("Provider"), widget=UnfoldAdminSelectWidget()
    )
    model_id = forms.ChoiceField(
        label=gettext_lazy("Model"),
        widget=UnfoldAdminSelectWidget(),
        help_text=gettext_lazy("The price counts for all routes of the model at this provider."),
    )
    input_price_micros = MoneyField(label=gettext_lazy("A million input tokens"))
    output_price_micros = MoneyField(label=gettext_lazy("A million output tokens"))
    cached_input_price_micros = MoneyField(
        label=gettext_lazy("A million cached input tokens"),
        required=False,
        help_text=gettext_lazy("Leave empty if they cost the same as other input."),
    )

    class Meta:
        model = CostPrice
        fields = (
            "provider_name",
            "model_id",
            "starts_on",
            "input_price_micros",
            "output_price_micros",
            "cached_input_price_micros",
        )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        providers = [DEFAULT_PROVIDER] if settings.PROVIDER_BASE_URL else []
        providers += Provider.objects.values_list("name", flat=True)
        models = LanguageModel.objects.values_list("model_id", "name")
        names = {"provider_name": [(one, one) for one in providers], "model_id": list(models)}
        for name, known in names.items():
            choices = _names(known, self[name].value(), most=_MOST_CHARACTERS[name])
            self.fields[name].choices = choices  # type: ignore[attr-defined]
        for name in ("input_price_micros", "output_price_micros", "cached_input_price_micros"):
            self.fields[name].label = f"{self.fields[name].label} ({settings.CURRENCY})"

    def others(self) -> QuerySet[Any]:
        same = {name: self.cleaned_data[name] for name in ("provider_name", "model_id")}
        return super().others().filter(**same)


class CreditPriceForm(DatedPriceForm):
    """What a credit is sold for."""

    price_micros = MoneyField(label=gettext_lazy("One credit"))

    class Meta:
        model = CreditPrice
        fields = ("starts_on", "price_micros")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["price_micros"].label = _("One credit (%(currency)s)") % {
            "currency": settings.CURRENCY
        }


class DatedPriceAdmin(AuditedAdmin):
    """Prices that count are corrected, never deleted: their days would have none."""

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fields = super().get_fields(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fields
        return [name for name in fields if name != "is_correction"]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        starts_on: date | None = getattr(obj, "starts_on", None)
        is_past = obj is not None and starts_on is not None and starts_on <= timezone.now().date()
        return not is_past and super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> Any:
        """Leave out the deletion of many, which asks about no row in particular."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions


@admin.register(CostPrice)
class CostPriceAdmin(DatedPriceAdmin):
    form = CostPriceForm
    list_display = ("provider_name", "model_id", "starts_on", "came_in", "went_out")
    list_filter = ("provider_name", "model_id")
    search_fields = ("provider_name", "model_id")
    fields = (
        ("provider_name", "model_id"),
        "starts_on",
        ("input_price_micros", "output_price_micros"),
        "cached_input_price_micros",
        "is_correction",
    )

    @display(
        description=gettext_lazy("a million input tokens (cached)"), ordering="input_price_micros"
    )
    def came_in(self, price: CostPrice) -> str:
        cached = price.cached_input_price_micros
        shown = f"{local_credits(price.input_price_micros)} {settings.CURRENCY}"
        return shown if cached is None else f"{shown} ({local_credits(cached)})"

    @display(description=gettext_lazy("a million output tokens"), ordering="output_price_micros")
    def went_out(self, price: CostPrice) -> str:
        return f"{local_credits(price.output_price_micros)} {settings.CURRENCY}"


@admin.register(CreditPrice)
class CreditPriceAdmin(DatedPriceAdmin):
    form = CreditPriceForm
    list_display = ("starts_on", "price")
    fields = ("starts_on", "price_micros", "is_correction")

    @display(description=gettext_lazy("one credit"), ordering="price_micros")
    def price(self, price: CreditPrice) -> str:
        return f"{local_credits(price.price_micros)} {settings.CURRENCY}"

"""Form fields that more than one page needs."""

from __future__ import annotations

from datetime import date
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator

from common.money import InvalidAmount, parse_credits, show_credits

# Instead of Django's, by the code of what is wrong.
PLAIN_WORDS = {
    "min_value": "Must be at least %(limit_value)s.",
    "max_value": "Must be at most %(limit_value)s.",
    "max_length": "Must have at most %(limit_value)d characters; it has %(show_value)d.",
}


class CreditsField(forms.CharField):
    """An amount of credits with up to six decimals; its value is whole micro-credits."""

    def __init__(self, *, least: int = 0, **options: Any) -> None:
        """`least` is the smallest amount that is taken, in micro-credits."""
        self.least = least
        super().__init__(**options)
        self.widget.attrs |= {"inputmode": "decimal", "autocomplete": "off"}

    def prepare_value(self, value: Any) -> Any:
        """Show stored micro-credits as credits; what was typed stays as it was typed."""
        return show_credits(value).replace(",", "") if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        typed = super().clean(value)
        if typed in self.empty_values:
            return None
        try:
            # As people write it: 1,000.50
            amount = parse_credits(typed.replace(",", "") if _has_thousands(typed) else typed)
        except InvalidAmount as error:
            raise forms.ValidationError(str(error)) from None
        if amount < self.least:
            raise forms.ValidationError(f"Must be at least {show_credits(self.least)}.")
        return amount

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


def _has_thousands(text: str) -> bool:
    """Tell whether commas part thousands: `1,5` might be one and a half, and is refused."""
    head, *groups = text.strip().lstrip("+-").split(".")[0].split(",")
    return bool(groups) and 1 <= len(head) <= 3 and all(len(group) == 3 for group in groups)


class DayField(forms.DateField):
    """A day of this age: the day after it and the hour before it can be reckoned with."""

    default_validators = [
        MinValueValidator(date(2000, 1, 1), "Choose a day from 2000 on."),
        MaxValueValidator(date(2999, 12, 31), "Choose a day before the year 3000."),
    ]


class LabelledForm(forms.Form):
    """A form in plain words, without colons after its labels, as the pages draw them themselves."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"label_suffix": ""} | options)
        for field in self.fields.values():
            field.error_messages |= PLAIN_WORDS

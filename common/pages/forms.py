"""Form fields used by more than one page."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.forms.utils import flatatt
from django.utils.crypto import salted_hmac
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from common.days import UTC_NAME, zone_of
from common.money import MAX_MICROCREDITS, InvalidAmount, parse_credits, show_credits
from common.pages.numbers import local_credits, local_number

# The random bits of a UUID version 7. The others are its time, its version, and its variant.
_RANDOM_BITS = 0xFFF << 64 | (1 << 62) - 1


def id_of_new(form_id: uuid.UUID, *, of: object) -> uuid.UUID:
    """Return the id of what a form with this hidden id creates within `of`.

    The same form returns the same id, so sending it twice creates one. A person may change the
    hidden id, but cannot choose the result: it must be no id that anything else has or will have.
    """
    drawn = salted_hmac("common.pages.forms", f"{of}:{form_id}", algorithm="sha256").digest()
    drawn_bits = int.from_bytes(drawn[:16], "big") & _RANDOM_BITS
    return uuid.UUID(int=form_id.int & ~_RANDOM_BITS | drawn_bits)


class CreditsField(forms.CharField):
    """An amount of credits with up to six decimals; its value is whole micro-credits."""

    def __init__(self, *, least: int = 0, most: int = MAX_MICROCREDITS, **options: Any) -> None:
        """`least` and `most` are the smallest and largest amount accepted, in micro-credits."""
        self.least, self.most = least, most
        super().__init__(**options)
        self.widget.attrs |= {"inputmode": "decimal", "autocomplete": "off"}

    def prepare_value(self, value: Any) -> Any:
        """Show stored micro-credits as credits, and typed text as it was typed."""
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
            raise forms.ValidationError(
                _("Must be at least %(amount)s.") % {"amount": local_credits(self.least)}
            )
        if amount > self.most:
            raise forms.ValidationError(
                _("Must be at most %(amount)s.") % {"amount": local_credits(self.most)}
            )
        return amount

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


def _has_thousands(text: str) -> bool:
    """Return whether commas separate thousands. `1,5` could mean one and a half, and is refused."""
    head, *groups = text.strip().lstrip("+-").split(".")[0].split(",")
    return bool(groups) and 1 <= len(head) <= 3 and all(len(group) == 3 for group in groups)


class DayField(forms.DateField):
    """A day between 2000 and 2999, so that adding a day or subtracting an hour cannot overflow."""

    default_validators = [
        MinValueValidator(date(2000, 1, 1), gettext_lazy("Choose a day in 2000 or later.")),
        MaxValueValidator(date(2999, 12, 31), gettext_lazy("Choose a day before the year 3000.")),
    ]


class MomentField(forms.DateTimeField):
    """A moment between the years 2000 and 2999, chosen by the minute. Its value is in UTC.

    A time without an offset is in `zone`. If clocks show that time twice, it is the first.
    """

    zone = UTC_NAME

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    default_error_messages = {"invalid": gettext_lazy("Enter a time such as 2026-11-28 14:30.")}
    default_validators = [
        MinValueValidator(
            datetime(2000, 1, 1, tzinfo=UTC), gettext_lazy("Choose a time in 2000 or later.")
        ),
        MaxValueValidator(
            datetime(2999, 12, 31, tzinfo=UTC), gettext_lazy("Choose a time before the year 3000.")
        ),
    ]

    def to_python(self, value: Any) -> datetime | None:
        moment: datetime | None = super().to_python(value)
        if moment is None or self.zone == UTC_NAME or _has_offset(value):
            return moment
        return moment.replace(tzinfo=zone_of(self.zone)).astimezone(UTC)

    def prepare_value(self, value: Any) -> Any:
        """Show a time with an offset, as in links, as a time in the zone."""
        if not _has_offset(value):
            return super().prepare_value(value)
        moment = parse_datetime(value.strip())
        return moment and f"{moment.astimezone(zone_of(self.zone)):%Y-%m-%dT%H:%M}"


def _has_offset(value: Any) -> bool:
    try:
        parsed = parse_datetime(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return False
    return parsed is not None and parsed.tzinfo is not None


class LongSelect(forms.Select):
    """A list of choices without groups, written at once. It looks like Django's.

    Django's has a template for each choice, which takes 60 ms for a thousand.
    """

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        found = flatatt(self.build_attrs(self.attrs, {**(attrs or {}), "name": name}))
        chosen = set(self.format_value(value))
        options = format_html_join(
            "",
            '<option value="{}"{}>{}</option>',
            (
                (one, " selected" if str(one) in chosen else "", label)
                for one, label in self.choices
            ),
        )
        return format_html("<select{}>{}</select>", found, options)


class SuggestingInput(forms.TextInput):
    """A search field that suggests texts, and takes any other too."""

    input_type = "search"
    suggestions: Iterable[str] = ()

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        list_id = f"{name}-suggestions"
        field = super().render(name, value, {**(attrs or {}), "list": list_id}, renderer)
        options = format_html_join("", '<option value="{}">', ((one,) for one in self.suggestions))
        return format_html('{}<datalist id="{}">{}</datalist>', field, list_id, options)


class PlainForm(forms.Form):
    """A form whose errors say how to fix the input. A field's own messages stay."""

    def full_clean(self) -> None:
        for field in self.fields.values():
            set_plain_words(field)
        super().full_clean()


def set_plain_words(field: forms.Field) -> None:
    """Replace Django's error messages of a field with ours, except those the field itself sets."""
    theirs = _words_of_django(field)
    for code, words in _words(field).items():
        if field.error_messages.get(code) in (None, theirs.get(code)):
            field.error_messages[code] = words


class _Words:
    """A message whose validator fills in its bound, as the active language writes numbers."""

    def __init__(self, text: Promise) -> None:
        self.text = text

    def __str__(self) -> str:
        return str(self.text)

    def __mod__(self, params: Any) -> str:
        shown = {
            name: local_number(value) if isinstance(value, int) else value
            for name, value in params.items()
        }
        return str(self.text) % shown


AT_LEAST = _Words(gettext_lazy("Enter %(limit_value)s or more."))
AT_MOST = _Words(gettext_lazy("Enter %(limit_value)s or less."))
TOO_LONG = _Words(gettext_lazy("Use at most %(limit_value)s characters, not %(show_value)s."))


def _words_of_django(field: forms.Field) -> dict[str, Any]:
    classes = [one for one in type(field).__mro__ if one.__module__.startswith("django.")]
    found: dict[str, Any] = {}
    for one in reversed(classes):
        found |= getattr(one, "default_error_messages", {})
    return found


def _words(field: forms.Field) -> dict[str, Any]:
    """Return our error messages for a field, by error code."""
    words: dict[str, Any] = {
        "required": gettext_lazy("Fill in this field."),
        "null_characters_not_allowed": gettext_lazy(
            "Remove the NUL character: it cannot be stored."
        ),
    }
    if isinstance(field, forms.ChoiceField | forms.ModelChoiceField):
        words |= dict.fromkeys(
            ("required", "invalid_choice"), gettext_lazy("Choose one of the options.")
        )
    elif isinstance(field, forms.IntegerField):
        words["invalid"] = gettext_lazy("Enter a whole number such as 60.")
        words["min_value"] = AT_LEAST
        words["max_value"] = AT_MOST
    elif isinstance(field, forms.DateField):
        words["invalid"] = gettext_lazy("Enter a day such as 2026-11-28.")
    elif isinstance(field, forms.EmailField):
        words["invalid"] = gettext_lazy("Enter an e-mail address such as name@example.com.")
    elif isinstance(field, forms.UUIDField):
        words["invalid"] = gettext_lazy("The form is damaged. Reload the page and try again.")
    if isinstance(field, forms.CharField) and field.max_length:
        words["max_length"] = TOO_LONG
    return words


class LabelledForm(PlainForm):
    """A form without colons after its labels, because the pages draw the labels themselves."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"label_suffix": ""} | options)

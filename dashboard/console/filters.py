"""The filters that usage and conversations share, read from the query string."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels.models import Account, Channel, LanguageModel
from common.days import last_days
from common.pages.forms import DayField, LongSelect, MomentField, PlainForm

MOST_DAYS = 366
MOST_MODEL_CHARACTERS = 100
DAY = forms.DateInput(attrs={"type": "date"})


class FilterForm(PlainForm):
    """Which channel, which days, live or test. Errors appear beside their field.

    In a tab of a channel, the channel is fixed: the form ignores any other, and does not show it.
    """

    channel = forms.ChoiceField(label=gettext_lazy("Channel"), required=False, widget=LongSelect)
    traffic = forms.ChoiceField(
        required=False,
        choices=[("live", gettext_lazy("Live")), ("test", gettext_lazy("Test keys"))],
        label=gettext_lazy("Traffic"),
    )
    first = DayField(required=False, label=gettext_lazy("From ({zone})"), widget=DAY)
    last = DayField(required=False, label=gettext_lazy("To, included ({zone})"), widget=DAY)

    def __init__(
        self, data: QueryDict, *, account: Account, channel: Channel | None = None
    ) -> None:
        if channel is not None:
            data = data.copy()
            data["channel"] = str(channel.id)
        super().__init__(data)
        self.zone = account.time_zone
        set_zone(self, account.time_zone)
        channels = Channel.objects.filter(account=account).order_by("name", "id")
        if channel is not None:
            channels = channels.filter(id=channel.id)
        self.channel_names = self.read_channels(channels)
        choices = [(str(pk), name) for pk, name in self.channel_names.items()]
        self.fields["channel"].choices = [("", _("All channels")), *choices]  # type: ignore[attr-defined]
        if channel is not None:
            self.initial["channel"] = str(channel.id)  # so it does not count as a chosen filter
            self.fields["channel"].widget = forms.HiddenInput()

    def read_channels(self, channels: QuerySet[Channel]) -> dict[uuid.UUID, str]:
        """Return the names of the channels, in their order."""
        return dict(channels.values_list("id", "name"))

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        first, last = cleaned.get("first"), cleaned.get("last")
        if first and last and last < first:
            self.add_error("last", _("The last day is before the first: choose a later one."))
        elif first and last and (last - first).days >= MOST_DAYS:
            words = _("At most %(most)s days at once: choose a shorter range.")
            self.add_error("last", words % {"most": MOST_DAYS})
        return cleaned

    def value(self, name: str) -> Any:
        """Return a field's value, or None if it is empty or invalid."""
        return getattr(self, "cleaned_data", {}).get(name) or None

    @property
    def channel_id(self) -> uuid.UUID | None:
        chosen = self.value("channel")
        return uuid.UUID(chosen) if chosen else None

    @property
    def is_test(self) -> bool:
        return bool(self.value("traffic") == "test")

    def query(self, **changes: str) -> str:
        """Return the filters as a query string, with some of them changed."""
        values = {name: self.data.get(name, "") for name in self.fields} | changes
        return urlencode({name: value for name, value in values.items() if value})


class MomentsForm(FilterForm):
    """As FilterForm, with moments instead of days, so that a figure can link to its hours."""

    first = None  # type: ignore[assignment]
    last = None  # type: ignore[assignment]
    since = MomentField(required=False, label=gettext_lazy("From ({zone})"))
    until = MomentField(required=False, label=gettext_lazy("Until ({zone})"))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until <= since:
            self.add_error("until", _("This is not after the start: choose a later time."))
        elif since and until and until - since > timedelta(days=MOST_DAYS):
            words = _("At most %(most)s days at once: choose an earlier time.")
            self.add_error("until", words % {"most": MOST_DAYS})
        return cleaned

    def period(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the chosen moments, or the last days without them."""
        since, until = self.value("since"), self.value("until")
        first, tomorrow = last_days(now, zone=self.zone)
        if since and not until:
            latest = since + timedelta(days=MOST_DAYS)
            until = min(latest, max(tomorrow, since + timedelta(days=1)))
        until = until or tomorrow
        return since or until - (tomorrow - first), until


def set_zone(form: forms.Form, zone: str) -> None:
    """Name the zone in labels that have a place for it, and read times in that zone."""
    for field in form.fields.values():
        label = str(field.label or "")
        if "{zone}" in label:
            field.label = label.replace("{zone}", zone)
        if isinstance(field, MomentField):
            field.zone = zone


def with_chosen(names: dict[str, str], chosen: str, *, most: int) -> list[tuple[str, str]]:
    """Return choices by value, and the chosen one even if it is not among them.

    Figures include models and codes that no longer exist, and lead to lists filtered by them.
    PostgreSQL cannot compare text with NUL.
    """
    if chosen and len(chosen) <= most and "\x00" not in chosen:
        names = {**names, chosen: names.get(chosen, chosen)}
    return list(names.items())


def read_model_names() -> dict[str, str]:
    """Return the names of all models by their ids, in the catalogue's order."""
    return dict(LanguageModel.objects.values_list("model_id", "name"))


def model_choices(names: dict[str, str], chosen: str) -> list[tuple[str, str]]:
    """Return the models to filter by."""
    return [("", _("All models")), *with_chosen(names, chosen, most=MOST_MODEL_CHARACTERS)]

"""The filters that usage and conversations share, read from the query string."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.db.models import QuerySet
from django.forms.boundfield import BoundField
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels.models import Account, Channel, LanguageModel
from common.days import last_days, zone_of
from common.pages.forms import DayField, LongSelect, MomentField, PlainForm

MOST_DAYS = 366
RANGES = [
    ("24h", gettext_lazy("24 hours")),
    ("7d", gettext_lazy("7 days")),
    ("30d", gettext_lazy("30 days")),
    ("own", gettext_lazy("Custom range")),
]
_DAYS = {"7d": 7, "30d": 30}
MOST_MODEL_CHARACTERS = 100
DAY = forms.DateInput(attrs={"type": "date"})


class ListFilters(PlainForm):
    """The filters of a list, as includes/filters.html shows them."""

    # The filters that are always in view. The page folds the others away. None shows all.
    usual: ClassVar[tuple[str, ...] | None] = None

    def value(self, name: str) -> Any:
        """Return a field's value, or None if it is empty or invalid."""
        return getattr(self, "cleaned_data", {}).get(name) or None

    def query(self, **changes: str) -> str:
        """Return the filters as a query string, with some of them changed."""
        values = {name: self.data.get(name, "") for name in self.fields} | changes
        return urlencode({name: value for name, value in values.items() if value})

    @property
    def is_filtered(self) -> bool:
        """Whether a filter is in use. Live traffic and the channel of a tab are the usual."""
        unset = ("", "live", self.initial.get("channel", ""))
        return any(self.data.get(name, "") not in unset for name in self.fields if name != "range")

    @property
    def usual_fields(self) -> list[BoundField]:
        """The filters that most people need."""
        return [field for field in self if self.usual is None or field.name in self.usual]

    @property
    def other_fields(self) -> list[BoundField]:
        """The filters that the page folds away."""
        return [field for field in self if self.usual is not None and field.name not in self.usual]

    @property
    def has_more(self) -> bool:
        """Whether one of the other filters is in use or wrong."""
        return any(
            field.errors or field.value() not in (None, "", False, "live")
            for field in self.other_fields
        )


class DaysForm(ListFilters):
    """The days to show, of the account's time zone."""

    first = DayField(required=False, label=gettext_lazy("From ({zone})"), widget=DAY)
    last = DayField(required=False, label=gettext_lazy("To ({zone})"), widget=DAY)

    def __init__(self, data: QueryDict, *, account: Account) -> None:
        super().__init__(data, label_suffix="")
        self.zone = account.time_zone
        set_zone(self, self.zone)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        first, last = cleaned.get("first"), cleaned.get("last")
        if first and last and last < first:
            self.add_error("last", _("The last day is before the first: choose a later one."))
        return cleaned


class FilterForm(DaysForm):
    """Which channel, which days, live or test. Errors appear beside their field.

    In a tab of a channel, the channel is fixed: the form ignores any other, and does not show it.
    """

    channel = forms.ChoiceField(label=gettext_lazy("Channel"), required=False, widget=LongSelect)
    traffic = forms.ChoiceField(
        required=False,
        choices=[("live", gettext_lazy("Live")), ("test", gettext_lazy("Test keys"))],
        label=gettext_lazy("Traffic"),
    )

    def __init__(
        self, data: QueryDict, *, account: Account, channel: Channel | None = None
    ) -> None:
        if channel is not None:
            data = data.copy()
            data["channel"] = str(channel.id)
        super().__init__(data, account=account)
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
        cleaned = super().clean()
        first, last = cleaned.get("first"), cleaned.get("last")
        if first and last and (last - first).days >= MOST_DAYS:
            words = _("At most %(most)s days at once: choose a shorter range.")
            self.add_error("last", words % {"most": MOST_DAYS})
        return cleaned

    @property
    def channel_id(self) -> uuid.UUID | None:
        chosen = self.value("channel")
        return uuid.UUID(chosen) if chosen else None

    @property
    def is_test(self) -> bool:
        return bool(self.value("traffic") == "test")


class RangedForm(FilterForm):
    """As FilterForm, beside tabs for the last hours and days. A custom range shows its two ends."""

    range = forms.ChoiceField(
        required=False,
        choices=RANGES,
        label=gettext_lazy("Period"),
        widget=forms.HiddenInput,
    )
    ends: ClassVar[tuple[str, str]] = ("first", "last")

    @property
    def shown_range(self) -> str:
        """The period whose tab is current. A custom one may lack an end, or have a wrong one."""
        return "own" if self.data.get("range") == "own" else self.value("range") or "7d"

    @property
    def usual_fields(self) -> list[BoundField]:
        hidden = ("range",) if self.shown_range == "own" else ("range", *self.ends)
        return [field for field in super().usual_fields if field.name not in hidden]

    @property
    def other_fields(self) -> list[BoundField]:
        return [field for field in super().other_fields if field.name != "range"]

    def range_tabs(self, first: str, last: str) -> list[tuple[str, str, str]]:
        """Return each period with its query. A custom one starts with the ends given here."""
        none, own = dict.fromkeys(self.ends, ""), dict(zip(self.ends, (first, last), strict=True))
        return [
            (name, str(label), self.query(range=name, **(own if name == "own" else none)))
            for name, label in RANGES
        ]


class MomentsForm(RangedForm):
    """As RangedForm, with moments instead of days, so that a figure can link to its hours."""

    first = None  # type: ignore[assignment]
    last = None  # type: ignore[assignment]
    since = MomentField(required=False, label=gettext_lazy("From ({zone})"))
    until = MomentField(required=False, label=gettext_lazy("To ({zone})"))
    ends = ("since", "until")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until <= since:
            self.add_error("until", _("This is not after the start: choose a later time."))
        elif since and until and until - since > timedelta(days=MOST_DAYS):
            words = _("At most %(most)s days at once: choose an earlier time.")
            self.add_error("until", words % {"most": MOST_DAYS})
        return cleaned

    @property
    def shown_range(self) -> str:
        """As the address says. The links of figures give moments alone."""
        return "own" if any(self.data.get(name) for name in self.ends) else super().shown_range

    def period(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the chosen moments, or the last hours or days."""
        if self.shown_range != "own":
            return last_period(self.shown_range, now, self.zone)
        since, until = self.value("since"), self.value("until")
        first, tomorrow = last_days(now, zone=self.zone)
        if since and not until:
            latest = since + timedelta(days=MOST_DAYS)
            until = min(latest, max(tomorrow, since + timedelta(days=1)))
        until = until or tomorrow
        return since or until - (tomorrow - first), until

    def tabs_of(self, period: tuple[datetime, datetime]) -> list[tuple[str, str, str]]:
        """Return the tabs of a page that shows this period."""
        return self.range_tabs(*(moment_of(end, self.zone) for end in period))


def last_period(name: str, now: datetime, zone: str) -> tuple[datetime, datetime]:
    """Return when one of RANGES begins and ends. Hours and days are whole ones."""
    if name == "24h":
        next_hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        return next_hour - timedelta(hours=24), next_hour
    return last_days(now, _DAYS[name], zone)


def moment_of(moment: datetime, zone: str) -> str:
    """Return a moment as MomentField takes it. Figures begin and end at whole minutes.

    When clocks go back, it has an offset, because the zone then has the same time twice.
    """
    local = moment.astimezone(zone_of(zone))
    return f"{local:%Y-%m-%dT%H:%M}" + (f"{local:%z}" if local.fold else "")


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

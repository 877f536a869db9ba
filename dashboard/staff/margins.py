"""What providers and models cost, what their replies were sold for, and the margin between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import totals
from channels.cost_prices import FREE_PROVIDERS
from channels.models import LanguageModel
from common.currency import exact_amount, show_amount
from common.days import ONE_DAY, day_of, first_of_month, start_of
from common.money import format_credits
from common.pages.forms import DayField, PlainForm
from common.pages.numbers import in_local_signs, local_credits, with_unit
from common.pages.spreadsheets import lines
from conversations.usage import margins as usage_margins
from conversations.usage import provider_days
from conversations.usage.installation import SUMMED_WITHIN
from conversations.usage.margins import MarginLine, Margins
from dashboard.console.downloads import download
from dashboard.staff.activity import MOST_UNSUMMED
from dashboard.staff.pages import render_staff_page, staff_page, staff_url

SEES_MARGINS = "channels.view_margins"
MOST_DAYS = 366
_DAY = forms.DateInput(attrs={"type": "date"})
RANGES = [
    ("7d", gettext_lazy("7 days")),
    ("30d", gettext_lazy("30 days")),
    ("month", gettext_lazy("This month")),
    ("before", gettext_lazy("Last month")),
    ("own", gettext_lazy("Custom range")),
]
_DAYS = {"7d": 7, "30d": 30}


class MarginsForm(PlainForm):
    """Which days to show. An invalid choice shows the last 30 days."""

    range = forms.ChoiceField(required=False, choices=RANGES, label=gettext_lazy("Period"))
    first = DayField(required=False, label=gettext_lazy("From (UTC)"), widget=_DAY)
    last = DayField(required=False, label=gettext_lazy("To (UTC)"), widget=_DAY)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("range") != "own":
            return cleaned
        first, last = cleaned.get("first"), cleaned.get("last")
        for name in ("first", "last"):
            if not cleaned.get(name) and name not in self.errors:
                self.add_error(name, _("Choose a day."))
        if first and last and last < first:
            self.add_error("last", _("The last day is before the first: choose a later one."))
        elif first and last and (last - first).days >= MOST_DAYS:
            self.add_error(
                "last",
                _("At most %(most)s days at once: choose a shorter range.") % {"most": MOST_DAYS},
            )
        return cleaned

    @property
    def asks_for_days(self) -> bool:
        """Whether the person chooses the days themselves, even if they are missing or invalid."""
        return bool(self.data.get("range") == "own")

    def period(self, today: date) -> tuple[str, date, date]:
        """Return the name of the period, and its first and its last day."""
        chosen = self.cleaned_data.get("range") or "30d" if self.is_valid() else "30d"
        if chosen == "own":
            return chosen, self.cleaned_data["first"], self.cleaned_data["last"]
        if chosen == "month":
            return chosen, first_of_month(today), today
        if chosen == "before":
            last = first_of_month(today) - ONE_DAY
            return chosen, first_of_month(last), last
        return chosen, today - timedelta(days=_DAYS[chosen] - 1), today


@staff_page(SEES_MARGINS)
def margins(request: HttpRequest) -> HttpResponseBase:
    """Show the figures of a period in total, by provider, and by model."""
    form, now = MarginsForm(request.GET, label_suffix=""), timezone.now()
    name, first, last = form.period(day_of(now))
    unread = _unread_since(first, last, now)
    found = Margins() if unread else usage_margins.get_margins(first=first, last=last)
    names = dict(LanguageModel.objects.values_list("model_id", "name"))
    return render_staff_page(
        request,
        "margins.html",
        title=_("Margins"),
        form=form,
        currency=settings.CURRENCY,
        first=first,
        last=last,
        unsummed_since=unread,
        ranges=_ranges(first, last),
        shown_range="own" if form.asks_for_days else name,
        query=urlencode({"range": "own", "first": first, "last": last}),
        total=_describe(found.total),
        tables=[
            (
                _("Providers"),
                "provider",
                _("Provider"),
                [_describe(one, one.provider_name) for one in found.providers],
            ),
            (
                _("Models"),
                "model",
                _("Model"),
                [_describe(one, names.get(one.model_id, one.model_id)) for one in found.models],
            ),
        ],
        without_cost=_without_cost(request, found, names, first),
        prices_url=_url_if(request, "channels.view_costprice", "channels_costprice_changelist"),
        credit_url=_url_if(request, "channels.view_creditprice", "channels_creditprice_changelist"),
    )


@staff_page(SEES_MARGINS)
def export(request: HttpRequest) -> HttpResponseBase:
    """Send the figures of each provider and model as a CSV file."""
    form, now = MarginsForm(request.GET), timezone.now()
    if not form.is_valid():
        raise Http404
    _, first, last = form.period(day_of(now))
    if _unread_since(first, last, now):
        raise Http404
    found = usage_margins.get_margins(first=first, last=last)
    rows = lines(_COLUMNS, _rows(found, first, last))
    return download(rows, name=f"margins-{first}-{last}.csv", content_type="text/csv")


def _unread_since(first: date, last: date, now: datetime) -> datetime | None:
    """Return since when there are too many messages that no worker has added up, or None."""
    since = provider_days.unread_since(starts_at=start_of(first), now=now, within=SUMMED_WITHIN)
    if since is None or since >= start_of(last + ONE_DAY):
        return None
    return None if totals.count_messages_since(day_of(since)) <= MOST_UNSUMMED else since


def _ranges(first: date, last: date) -> list[tuple[str, str, str]]:
    """Return each period with its query. A custom one starts with the days shown now."""
    days = {"own": {"first": str(first), "last": str(last)}}
    return [
        (name, str(label), urlencode({"range": name} | days.get(name, {})))
        for name, label in RANGES
    ]


def _describe(line: MarginLine, name: str = "") -> dict[str, Any]:
    """Return a line's figures in words. What is unknown is '', and never 0."""
    return {
        "line": line,
        "name": name or _("Unknown"),
        "is_free": line.provider_name in FREE_PROVIDERS,
        "credits": local_credits(line.charged_microcredits),
        "revenue": _shown(line.revenue_picos),
        "cost": _shown(line.cost_picos),
        "margin": _shown(line.margin_picos),
        "is_loss": (line.margin_picos or 0) < 0,
        "percent": ""
        if line.margin_percent is None
        else with_unit(in_local_signs(str(line.margin_percent)), "%"),
        "is_partly_priced": 0 < line.without_cost_count < line.request_count,
    }


def _shown(picos: int | None) -> str:
    return "" if picos is None else in_local_signs(show_amount(picos))


def _without_cost(
    request: HttpRequest, found: Margins, names: dict[str, str], first: date
) -> list[dict[str, Any]]:
    """Return which providers and models lack a price, each with the form to enter it."""
    page = _url_if(request, "channels.add_costprice", "channels_costprice_add")
    described = []
    for line in found.pairs:
        if line.without_cost_count:
            keys = {"provider_name": line.provider_name, "model_id": line.model_id}
            described.append(
                {
                    "line": line,
                    "model": names.get(line.model_id, line.model_id),
                    "url": f"{page}?{urlencode(keys | {'starts_on': first})}" if page else "",
                }
            )
    return described


def _url_if(request: HttpRequest, permission: str, name: str) -> str:
    return staff_url(name) if request.user.has_perm(permission) else ""


_COLUMNS = (
    "first_day_utc", "last_day_utc", "provider", "model", "requests", "input_tokens",
    "cached_input_tokens", "output_tokens", "credits", "currency", "revenue", "cost", "margin",
    "margin_percent", "requests_without_cost_price",
)  # fmt: skip


def _rows(found: Margins, first: date, last: date) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each provider and model. What is unknown is empty, and never 0."""
    for line in found.pairs:
        amounts = (line.revenue_picos, line.cost_picos, line.margin_picos)
        percent = line.margin_percent
        yield (
            str(first),
            str(last),
            line.provider_name,
            line.model_id,
            line.request_count,
            line.input_tokens,
            line.cached_input_tokens,
            line.output_tokens,
            format_credits(line.charged_microcredits),
            settings.CURRENCY,
            *("" if picos is None else exact_amount(picos) for picos in amounts),
            "" if percent is None else str(percent),
            line.without_cost_count,
        )

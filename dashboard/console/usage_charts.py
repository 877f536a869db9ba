"""The charts of an account's usage in a period."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from django.utils.translation import gettext as _

from common.pages.durations import duration
from common.pages.numbers import local_credits
from conversations.usage.reports import Line, Report, Scope
from dashboard import charts
from dashboard.charts import Series, Times
from dashboard.console.usage_words import chart_titles, label_of

# Models that a chart names. It shows all others together.
MODELS_SHOWN = 4
# The colours of models in charts.css: as many as the charts of requests and credits can name.
COLOURS = 2 * MODELS_SHOWN


def draw_charts(
    scope: Scope,
    report: Report,
    log: Callable[[Scope], dict[str, str]],
    now: datetime,
    names: dict[str, str],
) -> list[dict[str, Any]]:
    """Return the charts of requests, credits, and the time to answer.

    `names` has the names of all models by their ids, in the catalogue's order.
    """
    of = report.times
    links = [log(scope.part(line.key)) for line in of]
    answered = [link["answered"] for link in links]
    errors = [link["errors"] for link in links]
    is_running = scope.starts_at <= now < scope.ends_at
    labels = [label_of(scope, line) for line in of]
    times = Times(labels, [link["all"] for link in links], is_running)
    named = {figure: _largest(report, figure) for figure in (_replies, _charged)}
    colours = _colours({one for shown in named.values() for one in shown}, names)
    by_model = partial(_by_model, scope, report, log, names=names, colours=colours)
    requests = [
        *by_model(_replies, named[_replies]),
        Series(_("Errors"), [line.error_count for line in of], "gw-series-bad", errors),
    ]
    latency = [
        Series(_("Median (p50)"), [line.p50_ms for line in of], "gw-series-half", answered),
        Series("p95", [line.p95_ms for line in of], "gw-series-most", answered),
    ]
    charged = by_model(_charged, named[_charged])
    titles = chart_titles(scope)
    bars, curve = charts.bar_chart, charts.line_chart
    return [
        _chart(_("Requests"), bars, times, requests, titles["requests"], charts.show_whole),
        _chart(_("Credits"), bars, times, charged, titles["credits"], _credits)
        | {"flat": _("No credits were charged in this period.")},
        _chart(_("Time to answer"), curve, times, latency, titles["latency"], duration)
        | {"flat": _flat_latency(report.total)},
    ]


def _replies(line: Line) -> int:
    return line.reply_count


def _charged(line: Line) -> int:
    return line.charged_microcredits


def _largest(report: Report, figure: Callable[[Line], int]) -> list[str]:
    """Return the ids of the models with the largest figures."""
    largest = sorted(report.models, key=figure, reverse=True)
    return [line.key for line in largest[:MODELS_SHOWN] if figure(line)]


def _colours(shown: set[str], names: Iterable[str]) -> dict[str, str]:
    """Return the class with the colour of each model that a page shows.

    A model's place in the catalogue gives its colour, so that it has the same one in each period.
    Only if a model before it has that colour, which takes a longer catalogue than there are
    colours, it has the next. Models that the catalogue no longer has come last.
    """
    known = list(names)
    unknown = sorted(shown.difference(known))
    classes: dict[str, str] = {}
    free = list(range(COLOURS))
    for place, model_id in enumerate([*known, *unknown]):
        if model_id in shown:
            wanted = place % COLOURS
            number = min(free, key=lambda one: (one - wanted) % COLOURS)
            free.remove(number)
            classes[model_id] = f"gw-series-{number + 1}"
    return classes


def _by_model(
    scope: Scope,
    report: Report,
    log: Callable[[Scope], dict[str, str]],
    figure: Callable[[Line], int],
    shown: list[str],
    *,
    names: dict[str, str],
    colours: dict[str, str],
) -> list[Series]:
    """Return a figure of each model shown by time, and that of all others together."""
    moments = [line.key for line in report.times]

    def value(moment: datetime, model_id: str) -> int:
        share = report.shares.get((moment, model_id))
        return figure(share) if share else 0

    series = [
        Series(
            names.get(model_id, model_id) or _("Unknown model"),
            [value(moment, model_id) for moment in moments],
            colours[model_id],
            [
                log(replace(scope.part(moment), model_id=model_id or scope.model_id))["answered"]
                for moment in moments
            ],
        )
        for model_id in shown
    ]
    others = [
        figure(line) - sum(one.values[at] or 0 for one in series)
        for at, line in enumerate(report.times)
    ]
    if any(others):
        series.append(Series(_("Other models"), others, "gw-series-others"))
    return series


def _chart(
    title: str,
    draw: Any,
    times: Times,
    series: list[Series],
    description: str,
    show: Callable[[float], str],
) -> dict[str, Any]:
    drawn = draw(times, series, title=description, show=show)
    is_flat = not any(value for one in series for value in one.values)
    return {"title": title, "drawing": drawn, "legend": charts.legend(series), "is_flat": is_flat}


def _flat_latency(total: Line) -> str:
    if total.reply_count:
        return _("Every answer took less than 1 ms.")
    return _("Nothing was answered.")


def _credits(microcredits: float) -> str:
    return local_credits(round(microcredits))

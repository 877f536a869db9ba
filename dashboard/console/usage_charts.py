"""The charts of an account's usage in a period."""

from __future__ import annotations

from collections.abc import Callable
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

# Models that have their own colour in a chart. The last colour is for all others together.
MODELS_SHOWN = 4


def draw_charts(
    scope: Scope, report: Report, log: Callable[[Scope], dict[str, str]], now: datetime
) -> list[dict[str, Any]]:
    """Return the charts of requests, credits, and the time to answer."""
    of = report.times
    links = [log(scope.part(line.key)) for line in of]
    answered = [link["answered"] for link in links]
    errors = [link["errors"] for link in links]
    is_running = scope.starts_at <= now < scope.ends_at
    labels = [label_of(scope, line) for line in of]
    times = Times(labels, [link["all"] for link in links], is_running)
    by_model = partial(_by_model, scope, report, log)
    requests = [
        *by_model(lambda line: line.reply_count),
        Series(_("Errors"), [line.error_count for line in of], "gw-series-bad", errors),
    ]
    latency = [
        Series(_("Median (p50)"), [line.p50_ms for line in of], "gw-series-2", answered),
        Series("p95", [line.p95_ms for line in of], "gw-series-3", answered),
    ]
    charged = by_model(lambda line: line.charged_microcredits)
    titles = chart_titles(scope)
    bars, curve = charts.bar_chart, charts.line_chart
    return [
        _chart(_("Requests"), bars, times, requests, titles["requests"], charts.show_whole),
        _chart(_("Credits"), bars, times, charged, titles["credits"], _credits)
        | {"flat": _("No credits were charged in this period.")},
        _chart(_("Time to answer"), curve, times, latency, titles["latency"], duration)
        | {"flat": _flat_latency(report.total)},
    ]


def _by_model(
    scope: Scope,
    report: Report,
    log: Callable[[Scope], dict[str, str]],
    figure: Callable[[Line], int],
) -> list[Series]:
    """Return a figure of each large model by time, and that of all others together."""
    largest = sorted(report.models, key=figure, reverse=True)
    shown = [line.key for line in largest[:MODELS_SHOWN] if figure(line)]
    moments = [line.key for line in report.times]

    def value(moment: datetime, model_id: str) -> int:
        share = report.shares.get((moment, model_id))
        return figure(share) if share else 0

    series = [
        Series(
            model_id or _("Unknown model"),
            [value(moment, model_id) for moment in moments],
            f"gw-series-{number}",
            [
                log(replace(scope.part(moment), model_id=model_id or scope.model_id))["answered"]
                for moment in moments
            ],
        )
        for number, model_id in enumerate(shown, start=1)
    ]
    others = [
        figure(line) - sum(one.values[at] or 0 for one in series)
        for at, line in enumerate(report.times)
    ]
    if any(others):
        series.append(Series(_("Other models"), others, f"gw-series-{MODELS_SHOWN + 1}"))
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

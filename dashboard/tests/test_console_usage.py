"""The Usage page: correct figures, compared openly with the ledger, only of this account."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from channels.models import Membership, User
from channels.tests.factories import Site, make_site, set_prices
from common.days import start_of
from common.pages import spreadsheets
from common.pages.durations import duration
from conversations.models import FailedRequest, Message
from conversations.usage import reports
from dashboard import charts
from dashboard.charts import Series, Times
from dashboard.console import usage, usage_charts, usage_words
from tests.support.clients import ApiClient, account_page, log_in
from tests.support.fake_provider import FakeProvider, reply
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db


def csv_rows(response: Any) -> list[dict[str, str]]:
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def test_shows_figures_and_that_they_equal_the_ledger(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    api = ApiClient(site.api_key)
    provider.script.append(reply(input_tokens=1234, output_tokens=56))
    api.chat()
    provider.fail()
    api.chat()
    Message.objects.update(duration_ms=1500)
    page = owner.get("/usage/")
    assert page.status_code == 200
    text = page.content.decode()
    assert "These totals equal the ledger: 1 credit charged." in text
    assert "1,234" in text
    assert "provider_error: 1" in text
    assert "all times UTC" in text
    assert text.count('<div class="gw-chart"') == 3
    assert page.context["report"].total.request_count == 2


@pytest.mark.parametrize("query", ["?range=24h", "?range=30d", "?traffic=test", "?model=none"])
def test_every_period_opens(owner: Client, query: str) -> None:
    assert owner.get("/usage/" + query).status_code == 200


def test_an_empty_account_is_told_what_to_do(owner: Client) -> None:
    assert b"No requests in this period" in owner.get("/usage/").content


def test_an_own_range_is_whole_days(site: Site, owner: Client, provider: FakeProvider) -> None:
    ApiClient(site.api_key).chat()
    today = timezone.now().date()
    query = f"?range=own&first={today}&last={today}"
    assert owner.get("/usage/" + query).context["report"].total.reply_count == 1
    earlier = today - timedelta(days=1)
    page = owner.get(f"/usage/?range=own&first={earlier}&last={earlier}")
    assert page.context["report"].total.reply_count == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("range=own", "Choose a day."),
        ("range=own&first=2026-02-30&last=2026-03-01", "Enter a day such as 2026-11-28."),
        ("range=own&first=2026-03-02&last=2026-03-01", "The last day is before the first"),
        ("range=own&first=2024-01-01&last=2025-01-02", "At most 366 days"),
        ("range=century", "Choose one of the options."),
        ("channel=nonsense", "Choose one of the options."),
    ],
)
def test_wrong_filters_are_said_beside_the_field(owner: Client, query: str, words: str) -> None:
    page = owner.get("/usage/?" + query)
    assert page.status_code == 200
    assert words in page.content.decode()
    assert owner.get("/usage/days.csv?" + query).status_code == 404


def test_filters_are_said_to_hide_part_of_the_ledger(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat(metadata={"url": "https://s.example/a"})
    page = owner.get("/usage/", {"page": "https://s.example/"})
    assert b"not compared with the ledger" in page.content
    assert page.context["report"].total.reply_count == 1
    assert owner.get("/usage/", {"page": "https://x"}).context["report"].total.reply_count == 0


def test_a_difference_from_the_ledger_is_shown(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    Message.objects.filter(role="assistant").update(charged_microcredits=400_000)
    page = owner.get("/usage/").content.decode()
    assert "The ledger shows 1 credit charged in this period, 0.6 more" in page


def test_an_erased_session_keeps_its_books(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    api = ApiClient(site.api_key)
    api.chat()
    api.erase()
    assert b"These totals equal the ledger: 1 credit charged." in owner.get("/usage/").content


def test_a_strangers_channel_is_as_unknown_as_any(
    site: Site, stranger: Site, owner: Client, provider: FakeProvider
) -> None:
    ApiClient(stranger.api_key).chat()
    theirs = owner.get("/usage/", {"channel": str(stranger.channel.id)})
    unknown = owner.get("/usage/", {"channel": str(uuid.uuid4())})
    for page in (theirs, unknown):
        assert "Choose one of the options." in page.content.decode()
        assert page.context["report"].total.request_count == 0
        assert b"Stranger" not in page.content
    assert owner.get("/usage/days.csv", {"channel": str(stranger.channel.id)}).status_code == 404


def test_a_viewer_may_look(site: Site) -> None:
    user = User.objects.create_user("viewer@example.com")
    Membership.objects.create(account=site.channel.account, user=user)
    for path in ("", "month/", "pages/", "days.csv"):
        assert log_in(user).get(f"/usage/{path}").status_code == 200


def test_top_pages_lead_to_their_figures(site: Site, owner: Client, provider: FakeProvider) -> None:
    ApiClient(site.api_key).chat(metadata={"url": "javascript:alert(1)"})
    text = owner.get("/usage/pages/").content.decode()
    assert "javascript:alert(1)</a>" in text
    assert 'href="javascript' not in text


def test_the_csv_by_day_has_the_figures(site: Site, owner: Client, provider: FakeProvider) -> None:
    ApiClient(site.api_key).chat()
    response = owner.get("/usage/days.csv?range=7d")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="usage-days-')
    rows = csv_rows(response)
    assert len(rows) == 7
    assert (rows[-1]["requests"], rows[-1]["credits"]) == ("1", "1.000000")
    assert rows[0]["p50_seconds"] == ""


@pytest.mark.parametrize("text", ["=1", "+1", "-1+1", "@x", "\tx", "\rx"])
def test_text_can_be_no_formula(text: str) -> None:
    assert spreadsheets.safe(text) == "'" + text


@pytest.mark.parametrize("cell", [-1, -0.5, None, "1", "-1.500000", ""])
def test_numbers_stay_numbers(cell: Any) -> None:
    assert spreadsheets.safe(cell) == cell


@pytest.mark.django_db(transaction=True)
def test_totals_equal_the_ledger_while_answers_come_in(
    site: Site, owner: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_report = reports.get_report

    def and_an_answer(scope: Any, coverage: Any = None, **options: Any) -> Any:
        report = get_report(scope, coverage, **options)
        if not scope.is_test and scope.ends_at > timezone.now():
            run_in_threads(lambda _: ApiClient(site.api_key).chat(), 1)
        return report

    monkeypatch.setattr(reports, "get_report", and_an_answer)
    assert "These totals equal the ledger: 0 credits" in owner.get("/usage/").content.decode()
    assert "These totals equal the ledger: 1 credit" in owner.get("/usage/").content.decode()


@pytest.mark.django_db(transaction=True)  # as for a real page, those of transactions count
def test_the_page_takes_few_queries(
    site: Site, owner: Client, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    for index in range(5):
        ApiClient(make_site(name=f"Shop {index}").api_key).chat()
        FailedRequest.objects.create(
            channel=site.channel, is_test=False, error_code="overloaded", created_at=timezone.now()
        )
    owner.get(account_page(site, "usage/"))
    with django_assert_max_num_queries(15):
        owner.get(account_page(site, "usage/"))
    with django_assert_max_num_queries(13):
        owner.get(account_page(site, "usage/month/"))
    with django_assert_max_num_queries(14):
        owner.get(account_page(site, "usage/pages/"))


def test_of_many_channels_the_busiest_are_listed(
    site: Site, owner: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "CHANNELS_SHOWN", 1)
    busy = make_site(name="Busy")
    for _ in range(2):
        ApiClient(busy.api_key).chat()
    ApiClient(site.api_key).chat()
    page = owner.get("/usage/")
    assert [one["label"] for one in page.context["channel_lines"]] == ["Busy"]
    assert "The 1 channels with the most requests, of 2." in page.content.decode()
    assert page.context["report"].total.request_count == 3


# --- The period before, models, and the month -----------------------------------------------------


def test_figures_are_compared_with_the_period_before(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    api = ApiClient(site.api_key)
    for _ in range(3):
        api.chat()
    before = timezone.now() - timedelta(days=7, minutes=5)
    replies = Message.objects.filter(role="assistant").order_by("id")
    earlier = list(replies.values_list("id", flat=True)[:2])
    Message.objects.filter(id__in=earlier).update(created_at=before)
    page = owner.get("/usage/")
    assert page.context["changes"]["requests"] == "\N{MINUS SIGN}50\N{NO-BREAK SPACE}%"
    assert "the 7 days before, up to the same time" in page.content.decode()
    # What came later in that day is no part of the comparison.
    later = before + timedelta(minutes=10)
    Message.objects.filter(id__in=earlier).update(created_at=later)
    assert owner.get("/usage/").context["changes"]["requests"] == ""


def test_the_period_before_a_past_one_is_whole() -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    zone = "Europe/Berlin"
    # Clocks went back on 25 October.
    first, after = date(2026, 10, 26), date(2026, 11, 2)
    scope = reports.Scope(1, start_of(first, zone), start_of(after, zone), zone=zone)
    before = scope.before(now)
    assert before.starts_at == start_of(date(2026, 10, 19), zone)
    assert before.ends_at == scope.starts_at


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (5, 0, ""), (0, 5, "\N{MINUS SIGN}100 %"), (112, 100, "+12 %"), (100, 100, "as before"),
        (1_000, 100, "10 times as before"), (1_001, 1_000, "as before"),
    ],
)  # fmt: skip
def test_a_change_is_in_per_cent(now: int, before: int, words: str) -> None:
    assert usage_words.change_words(now, before) == words.replace(" %", "\N{NO-BREAK SPACE}%")


def test_bars_are_stacked_by_model_and_add_up(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    api = ApiClient(site.api_key)
    models = [f"model-{number}" for number in range(6)]
    for number, model_id in enumerate(models):
        for _ in range(6 - number):
            api.chat()
        newest = Message.objects.filter(request_model=site.channel.model.model_id)
        newest.update(request_model=model_id)
    page = owner.get("/usage/")
    report, count = page.context["report"], usage_charts._replies
    shown = usage_charts._largest(report, count)
    series = usage_charts._by_model(
        page.context["scope"],
        report,
        lambda scope: {"answered": scope.model_id},
        count,
        shown,
        names={models[0]: "Model zero"},
        colours=dict.fromkeys(shown, ""),
    )
    assert [one.name for one in series] == ["Model zero", *models[1:4], "Other models"]
    assert [sum(value or 0 for value in one.values) for one in series] == [6, 5, 4, 3, 3]
    # Each bar leads to its own model's requests.
    assert [one.links[-1] for one in series[:4]] == models[:4]
    assert not series[4].links


def test_a_model_keeps_its_colour() -> None:
    catalogue = [f"model-{number}" for number in range(10)]
    colours = usage_charts._colours({"model-5", "model-2"}, catalogue)
    assert colours == {"model-2": "gw-series-3", "model-5": "gw-series-6"}
    # Whatever else is shown, as long as there are colours for all.
    more = usage_charts._colours({"model-2", "model-8", "model-0", "gone"}, catalogue)
    assert more["model-2"] == "gw-series-3"
    assert more["model-0"] == "gw-series-1"
    # The ninth would have the first colour again, and one that is gone would have the third.
    assert more["model-8"] == "gw-series-2"
    assert more["gone"] == "gw-series-4"
    assert len(set(usage_charts._colours(set(catalogue[:8]), catalogue).values())) == 8


def test_all_charts_of_a_page_show_a_model_in_one_colour_and_by_its_name(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    model = site.channel.model
    api = ApiClient(site.api_key)
    api.chat()
    api.chat()
    # The most requests, and no credits.
    Message.objects.update(request_model="other", charged_microcredits=0)
    api.chat()
    page = owner.get("/usage/")
    requests, charged, _ = page.context["charts"]
    legend = f'<span class="gw-series-1">{model.name}</span>'
    assert legend in requests["legend"]
    assert legend in charged["legend"]
    assert f'title="{model.model_id}">{model.name}</a>' in page.content.decode()


def test_the_month_so_far_and_at_this_pace(
    site: Site, owner: Client, provider: FakeProvider, clock: Any
) -> None:
    clock.move_to("2026-11-10T00:00:00Z")
    ApiClient(site.api_key).chat()
    page = owner.get("/usage/month/")
    text = page.content.decode()
    assert "November: 1 so far" in text
    assert page.context["has_pace"]
    assert "by 30 Nov" in text


@pytest.mark.parametrize(
    ("exact", "rounded"), [(0.2, 0), (7, 7), (12_345, 12_000), (99_900, 100_000)]
)
def test_a_forecast_has_two_digits(exact: float, rounded: int) -> None:
    assert usage._rounded(exact) == rounded


# --- Charts ---------------------------------------------------------------------------------------


def test_charts_say_their_figures_and_escape_names() -> None:
    series = [Series("<b>", [1, 3]), Series("Errors", [0, 2], "gw-series-bad")]
    drawn = charts.bar_chart(Times(["1 May", "2 May"]), series, title="A & B")
    assert "<title>2 May\n&lt;b&gt;\t3\nErrors\t2</title>" in drawn
    assert 'data-series="gw-series-1 gw-series-bad"' in drawn
    # What is zero is not told.
    assert 'data-series="gw-series-1"><title>1 May\n&lt;b&gt;\t1</title>' in drawn
    assert "&lt;b&gt;" in drawn
    assert 'aria-label="A &amp; B"' in drawn
    assert ">1 May</text>" in drawn


def test_a_line_has_gaps_where_nothing_was_measured() -> None:
    drawn = charts.line_chart(Times(["a", "b", "c"]), [Series("p50", [1.5, None, 0.25])], title="t")
    assert drawn.count("gw-line") == 0
    assert drawn.count("<circle") == 2


def test_a_time_that_is_not_over_says_so() -> None:
    values = [Series("Requests", [3, 4, 1])]
    times = Times(["a", "b", "c"], is_running=True)
    assert "<title>c, so far\nRequests\t1</title>" in charts.bar_chart(times, values, title="t")
    line = charts.line_chart(times, values, title="t")
    assert line.count("gw-line") == 2
    assert line.count("gw-line gw-series-1 gw-so-far") == 1
    assert "so far" not in charts.bar_chart(Times(["a", "b", "c"]), values, title="t")


def test_the_last_time_always_has_its_label() -> None:
    for count in range(1, 70):
        labels = [f"day {number}" for number in range(count)]
        drawn = charts.bar_chart(Times(labels), [Series("x", [1] * count)], title="t")
        assert f'text-anchor="middle">{labels[-1]}<' in drawn
        assert drawn.count('text-anchor="middle"') <= 6


@pytest.mark.parametrize(
    ("most", "tick"), [(0, 1), (1, 0.25), (3, 1), (7, 2), (10, 2.5), (399, 100), (0.03, 0.01)]
)
def test_axes_end_at_round_numbers(most: float, tick: float) -> None:
    axis = charts._Axis(most)
    assert axis.tick == pytest.approx(tick)
    assert axis.tick * axis.count >= most


def test_a_chart_of_nothing_is_drawn() -> None:
    assert "<svg" in charts.bar_chart(Times([]), [Series("x", [])], title="t")
    assert "<svg" in charts.line_chart(Times(["a"]), [Series("x", [None])], title="t")


def test_an_own_range_begins_as_the_days_that_are_shown(owner: Client) -> None:
    page = owner.get("/usage/?range=7d")
    own = next(query for name, _, query in page.context["ranges"] if name == "own")
    assert b'name="first"' not in page.content
    chosen = owner.get("/usage/?" + own)
    scopes = page.context["scope"], chosen.context["scope"]
    assert scopes[0].starts_at == scopes[1].starts_at
    assert scopes[0].ends_at == scopes[1].ends_at
    assert f'value="{scopes[0].starts_at:%Y-%m-%d}"' in chosen.content.decode()
    # Switching back to a preset forgets the custom days.
    assert all("first" not in query for name, _, query in chosen.context["ranges"] if name != "own")


def test_answers_that_took_no_time_leave_no_empty_chart(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    Message.objects.update(duration_ms=0)
    page = owner.get("/usage/").content.decode()
    assert "Every answer took less than 1 ms." in page
    assert "under 1\N{NO-BREAK SPACE}ms" in page
    assert page.count('<div class="gw-chart"') == 2


def test_the_part_that_comes_later_leaves_the_title_of_the_page(site: Site, owner: Client) -> None:
    ApiClient(site.api_key).chat()
    page = owner.get("/usage/").content
    assert page.count(b"ignoreTitle:true") == page.count(b'hx-trigger="load"') >= 2


@pytest.mark.parametrize("most", [1, 2, 3, 6, 9, 10, 101])
def test_axes_of_counts_have_whole_numbers(most: int) -> None:
    drawn = charts.bar_chart(Times(["a"]), [Series("Requests", [most])], title="t", show=str)
    axis = [part.split("<")[0] for part in drawn.split('text-anchor="end">')[1:]]
    assert axis
    assert all(tick.isdecimal() for tick in axis)


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (0, "under 1 ms"),
        (1, "1 ms"),
        (999, "999 ms"),
        (1_000, "1 s"),
        (1_250, "1.25 s"),
        (2_500, "2.5 s"),
        (12_340, "12.3 s"),
        (100_000, "100 s"),
        (1_250_000, "1,250 s"),
    ],
)
def test_times_are_in_three_digits(milliseconds: int, words: str) -> None:
    # No line breaks between a number and its unit.
    assert duration(milliseconds) == "\N{NO-BREAK SPACE}".join(words.rsplit(" ", 1))


@pytest.mark.parametrize("took", [3, 40, 845, 2_500, 31_000])
def test_a_time_is_the_same_figure_wherever_it_stands(
    site: Site, owner: Client, provider: FakeProvider, took: int
) -> None:
    ApiClient(site.api_key).chat()
    Message.objects.update(duration_ms=took)
    page = owner.get("/usage/")
    said = duration(page.context["report"].total.p50_ms)
    latency = next(chart for chart in page.context["charts"] if chart["title"] == "Time to answer")
    assert f"\nMedian (p50)\t{said}\n" in latency["drawing"]
    assert page.content.decode().count(f">{said}<") >= 4
    axis = [part.split("<")[0] for part in latency["drawing"].split('text-anchor="end">')[1:]]
    assert axis[0] == "0"
    assert len(set(axis)) == len(axis)
    assert all(tick.split()[1] in ("ms", "s") for tick in axis[1:])
    assert took >= 1_000 or all(
        tick.endswith("ms") or tick.split() == ["1", "s"] for tick in axis[1:]
    )


def test_credits_are_the_same_figure_in_chart_and_table(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    set_prices(price_per_reply_microcredits=1_234_567)
    ApiClient(site.api_key).chat()
    page = owner.get("/usage/")
    chart = next(chart for chart in page.context["charts"] if chart["title"] == "Credits")
    assert f"\n{site.channel.model.name}\t1.234567<" in chart["drawing"]
    assert page.context["report"].total.credits == "1.234567"

"""The staff's page of margins, its CSV, and the prices that it takes, with their one permission."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from channels.models import AuditEntry, CostPrice, CreditPrice, LanguageModel
from channels.tests.factories import Site
from conversations.tests.test_rollups import add_reply
from conversations.usage import rollup
from dashboard.staff import margins as margins_page
from tests.support.clients import staff_client, text_of

pytestmark = pytest.mark.django_db

PAGE = "/admin/margins/"
CSV = "/admin/margins/margins.csv"
COST, CREDIT = "/admin/channels/costprice/", "/admin/channels/creditprice/"
NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
TODAY = NOON.date()
DAY = timedelta(days=1)


@pytest.fixture
def filled(site: Site, clock: Any) -> Site:
    """Two replies of yesterday: one that will have a price, and one that has none."""
    clock.move_to(NOON)
    model = LanguageModel.objects.all()[0].model_id
    fields = {
        "input_tokens": 1_000_000,
        "output_tokens": 500_000,
        "charged_microcredits": 3 * 10**6,
    }
    add_reply(site, NOON - DAY, provider_name="groq", request_model=model, **fields)
    add_reply(site, NOON - DAY, provider_name="openrouter", request_model="gone", **fields)
    return site


def the_model() -> str:
    return LanguageModel.objects.all()[0].model_id


def cost_form(**changes: Any) -> dict[str, Any]:
    return {
        "provider_name": "groq",
        "model_id": the_model(),
        "starts_on": str(TODAY - 30 * DAY),
        "input_price_micros": "0.05",
        "output_price_micros": "0.10",
        "cached_input_price_micros": "",
    } | changes


def add_prices() -> None:
    CostPrice.objects.create(
        provider_name="groq", model_id=the_model(), starts_on=TODAY - 30 * DAY,
        input_price_micros=50_000, output_price_micros=100_000,
    )  # fmt: skip
    CreditPrice.objects.create(starts_on=TODAY - 30 * DAY, price_micros=50_000)


def read_csv(client: Client, query: str = "") -> list[dict[str, str]]:
    text = b"".join(client.get(CSV + query)).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_the_page_says_what_has_no_price_and_never_0(filled: Site) -> None:
    client = staff_client("view_margins")
    text = text_of(client.get(PAGE))
    assert "Nobody has entered what a credit was sold for in this period" in text
    assert text.count("No cost price") == 4
    assert "0.0000" not in text
    assert "Enter cost price" not in text, "another permission"
    add_prices()
    text = text_of(client.get(PAGE))
    assert text.count("No cost price") == 2
    assert "Nobody has entered" not in text
    # 1 million in at 0.05, half a million out at 0.10; 3 credits at 0.05.
    assert "0.1000" in text
    assert "0.1500" in text
    assert "33.3 %" in text
    assert "1 of 1 requests" in text


def test_a_loss_has_its_sign(filled: Site) -> None:
    add_prices()
    CostPrice.objects.update(input_price_micros=1_000_000)
    assert "-0.9000" in text_of(staff_client("view_margins").get(PAGE))


def test_the_csv_has_the_exact_figures_and_leaves_unknown_ones_empty(filled: Site) -> None:
    add_prices()
    known, unknown = read_csv(staff_client("view_margins"), "?range=7d")
    assert (known["provider"], known["currency"]) == ("groq", "USD")
    assert (known["revenue"], known["cost"], known["margin"]) == (
        "0.150000000000",
        "0.100000000000",
        "0.050000000000",
    )
    assert (known["margin_percent"], known["requests_without_cost_price"]) == ("33.3", "0")
    assert (unknown["cost"], unknown["margin"], unknown["margin_percent"]) == ("", "", "")
    assert unknown["revenue"] == "0.150000000000"
    assert unknown["requests_without_cost_price"] == "1"


def test_the_range_is_chosen(filled: Site) -> None:
    client = staff_client("view_margins")
    for query, count in (
        ("", 2), ("?range=7d", 2), ("?range=month", 2), ("?range=before", 0),
        ("?range=own&first=2026-06-10&last=2026-06-10", 0),
        ("?range=own&first=2026-06-09&last=2026-06-09", 2),
    ):  # fmt: skip
        context = client.get(PAGE + query).context
        assert context["total"]["line"].request_count == count, query
        assert len(read_csv(client, query)) == count


@pytest.mark.parametrize(
    "query",
    [
        "?range=own", "?range=x", "?range=own&first=2026-06-10&last=2026-06-01",
        "?range=own&first=2020-01-01&last=2026-06-01", "?range=own&first=x&last=%00",
    ],
)  # fmt: skip
def test_a_wrong_range_says_so(filled: Site, query: str) -> None:
    client = staff_client("view_margins")
    answer = client.get(PAGE + query)
    assert answer.status_code == 200
    assert 'role="alert"' in text_of(answer)
    assert client.get(CSV + query).status_code == 404


def test_only_the_permission_of_its_own_opens_it(filled: Site) -> None:
    everything_else = ("view_costprice", "add_costprice", "view_ledgerentry", "view_message")
    other = staff_client(*everything_else, email="other@example.com")
    assert other.get(PAGE).status_code == 403
    assert other.get(CSV).status_code == 403
    assert "/admin/margins/" not in text_of(other.get("/admin/"))
    alone = staff_client("view_margins")
    assert alone.get(PAGE).status_code == 200
    assert alone.get(CSV).status_code == 200
    assert "/admin/margins/" in text_of(alone.get("/admin/"))
    for page in (COST, CREDIT, f"{COST}add/", "/admin/channels/route/"):
        assert alone.get(page).status_code == 403, page
    assert Client().get(PAGE).status_code == 302


def test_the_page_takes_few_queries(filled: Site, django_assert_max_num_queries: Any) -> None:
    add_prices()
    client = staff_client("view_margins")
    client.get(PAGE)
    with django_assert_max_num_queries(15):
        client.get(PAGE)
    for number in range(30):
        add_reply(filled, NOON - DAY, provider_name=f"p{number}", request_model=f"m{number}")
    with django_assert_max_num_queries(15):
        client.get(PAGE)


def test_too_many_messages_that_nobody_added_up_are_not_read(
    filled: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margins_page, "MOST_UNSUMMED", -1)
    client = staff_client("view_margins")
    assert "No figures: there are too many messages" in text_of(client.get(PAGE))
    assert client.get(CSV).status_code == 404
    rollup.roll_up(now=NOON)
    assert client.get(PAGE).context["total"]["line"].request_count == 2


# --- Prices ---------------------------------------------------------------------------------------


def test_a_missing_price_is_one_click_away_even_for_what_is_gone(filled: Site) -> None:
    client = staff_client("view_margins", "add_costprice", "view_costprice")
    links = {one["line"].model_id: one["url"] for one in client.get(PAGE).context["without_cost"]}
    form = client.get(links["gone"]).context["adminform"].form
    assert form["provider_name"].value() == "openrouter"
    assert form["model_id"].value() == "gone"
    first_day = form["starts_on"].value()
    sent = cost_form(provider_name="openrouter", model_id="gone", starts_on=first_day)
    assert client.post(links["gone"], sent).status_code == 302
    assert "gone" not in [one["line"].model_id for one in client.get(PAGE).context["without_cost"]]


def test_a_price_is_stored_exactly_and_audited(filled: Site) -> None:
    client = staff_client("add_costprice", "view_costprice")
    sent = cost_form(input_price_micros="0.000001", cached_input_price_micros="0")
    assert client.post(f"{COST}add/", sent).status_code == 302
    price = CostPrice.objects.get()
    assert (price.input_price_micros, price.output_price_micros) == (1, 100_000)
    assert price.cached_input_price_micros == 0
    assert AuditEntry.objects.get(action="costprice.created").actor_name == "staff@example.com"
    assert "0.000001 USD (0)" in text_of(client.get(COST))


@pytest.mark.parametrize("amount", ["", "-1", "0.0000001", "x", "1e99", "NaN", "1000001"])
def test_a_wrong_amount_is_refused_in_words(filled: Site, amount: str) -> None:
    client = staff_client("add_costprice", "view_costprice")
    answer = client.post(f"{COST}add/", cost_form(input_price_micros=amount))
    assert answer.status_code == 200
    assert "Enter an amount" in text_of(answer) or "Fill in this field" in text_of(answer)
    assert not CostPrice.objects.exists()


def test_a_new_price_does_not_change_the_past_unless_it_corrects_a_mistake(filled: Site) -> None:
    add_prices()
    client = staff_client("add_costprice", "view_costprice", "change_costprice")
    for day in (TODAY - 7 * DAY, TODAY):
        answer = client.post(f"{COST}add/", cost_form(starts_on=str(day)))
        assert "This changes the margins of days that are over" in text_of(answer), day
    assert client.post(f"{COST}add/", cost_form(starts_on=str(TODAY + DAY))).status_code == 302
    assert CostPrice.objects.count() == 2
    corrected = cost_form(starts_on=str(TODAY - 7 * DAY), is_correction="on")
    assert client.post(f"{COST}add/", corrected).status_code == 302
    assert CostPrice.objects.count() == 3


def test_a_price_before_the_first_one_fills_days_that_had_none(filled: Site) -> None:
    add_prices()
    client = staff_client("add_costprice", "view_costprice")
    early = cost_form(starts_on=str(date(2026, 1, 1)))
    assert client.post(f"{COST}add/", early).status_code == 302
    other = cost_form(provider_name="openrouter", starts_on=str(TODAY))
    assert client.post(f"{COST}add/", other).status_code == 302


def test_a_price_that_counts_changes_only_as_a_correction(filled: Site) -> None:
    add_prices()
    client = staff_client("view_costprice", "change_costprice", "delete_costprice")
    price = CostPrice.objects.get()
    page = f"{COST}{price.pk}/change/"
    assert client.get(page).status_code == 200
    assert "This changes the margins" in text_of(
        client.post(page, cost_form(input_price_micros="9"))
    )
    price.refresh_from_db()
    assert price.input_price_micros == 50_000
    sent = cost_form(input_price_micros="9", is_correction="on")
    assert client.post(page, sent).status_code == 302
    price.refresh_from_db()
    assert price.input_price_micros == 9_000_000
    entry = AuditEntry.objects.get(action="costprice.updated")
    assert entry.changes["input_price_micros"] == [50_000, 9_000_000]
    assert client.post(f"{COST}{price.pk}/delete/", {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": str(price.pk), "post": "yes"}
    client.post(COST, chosen)
    assert CostPrice.objects.filter(pk=price.pk).exists()


def test_a_price_of_the_future_is_free_to_change_and_to_delete(filled: Site) -> None:
    client = staff_client("view_costprice", "change_costprice", "delete_costprice")
    price = CostPrice.objects.create(
        provider_name="groq", model_id=the_model(), starts_on=TODAY + DAY, input_price_micros=1,
        output_price_micros=1,
    )  # fmt: skip
    sent = cost_form(starts_on=str(TODAY + 2 * DAY))
    assert client.post(f"{COST}{price.pk}/change/", sent).status_code == 302
    assert client.post(f"{COST}{price.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not CostPrice.objects.exists()


def test_the_price_of_a_credit_follows_the_same_rules(filled: Site) -> None:
    client = staff_client("view_creditprice", "add_creditprice", "change_creditprice")
    first = {"starts_on": str(TODAY - DAY), "price_micros": "0.01"}
    assert client.post(f"{CREDIT}add/", first).status_code == 302
    now = {"starts_on": str(TODAY), "price_micros": "0.02"}
    assert "This changes the margins" in text_of(client.post(f"{CREDIT}add/", now))
    again = text_of(client.post(f"{CREDIT}add/", first | {"is_correction": "on"}))
    assert "There is a price from that day" in again
    later = {"starts_on": str(TODAY + DAY), "price_micros": "0.02"}
    assert client.post(f"{CREDIT}add/", later).status_code == 302
    assert CreditPrice.objects.count() == 2

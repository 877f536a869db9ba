"""The commands listmodels, setprice and issuekey."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from channels.models import ApiKey, LanguageModel
from channels.tests.factories import Site

pytestmark = pytest.mark.django_db

PRICES = (
    "price_per_reply_microcredits",
    "price_per_1k_input_tokens_microcredits",
    "price_per_1k_output_tokens_microcredits",
)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def prices(model_id: str = "gemma2-9b-it") -> tuple[int, ...]:
    return tuple(LanguageModel.objects.values_list(*PRICES).get(model_id=model_id))


def test_lists_the_enabled_models_as_the_api_does() -> None:
    LanguageModel.objects.filter(model_id="mixtral-8x7b-32768").update(is_enabled=False)
    models = run_json("listmodels")["models"]
    assert [model["id"] for model in models] == [
        "llama-3.3-70b-versatile",
        "llama-3.1-70b-versatile",
        "llama-3.2-90b-vision-preview",
        "gemma2-9b-it",
    ]
    assert models[3] == {
        "id": "gemma2-9b-it",
        "name": "Gemma 2 9B",
        "context_window": 8192,
        "max_output_tokens": 4096,
        "speed_tps": 250,
        "best_for": "Lightweight, fast tasks",
        "price": {
            "per_reply": "1.000000",
            "per_1k_input_tokens": "0.000000",
            "per_1k_output_tokens": "0.000000",
        },
        "current": False,
        "ends_on": None,
        "successor": None,
    }
    lines = run("listmodels").splitlines()
    assert len(lines) == 4
    assert lines[3].split() == ["gemma2-9b-it", "8,192", "tokens", "Gemma", "2", "9B"]


def test_sets_the_prices_that_are_given() -> None:
    described = run_json("setprice", "--model", "gemma2-9b-it", "--per-1k-input", "0.25")
    assert described["price"] == {
        "per_reply": "1.000000",
        "per_1k_input_tokens": "0.250000",
        "per_1k_output_tokens": "0.000000",
    }
    run("setprice", "--model", "gemma2-9b-it", "--per-reply", "0", "--per-1k-output", "0.000001")
    assert prices() == (0, 250_000, 1)
    assert prices("mixtral-8x7b-32768") == (1_000_000, 0, 0)


def test_cached_input_has_a_price_of_its_own_up_to_that_of_input() -> None:
    both = ("--per-1k-input", "0.4", "--per-1k-cached-input", "0.1")
    described = run_json("setprice", "--model", "gemma2-9b-it", *both)
    assert described["price"]["per_1k_cached_input_tokens"] == "0.100000"
    with pytest.raises(CommandError, match="must not cost more than other input"):
        run("setprice", "--model", "gemma2-9b-it", "--per-1k-input", "0.05")
    assert prices() == (1_000_000, 400_000, 0)


def test_the_price_of_cached_input_can_be_taken_away_again() -> None:
    run("setprice", "--model", "gemma2-9b-it", "--per-1k-input", "1", "--per-1k-cached-input", "0")
    none = ("--per-1k-input", "0.05", "--per-1k-cached-input", "none")
    described = run_json("setprice", "--model", "gemma2-9b-it", *none)
    assert "per_1k_cached_input_tokens" not in described["price"]
    assert prices() == (1_000_000, 50_000, 0)
    run("setprice", "--model", "gemma2-9b-it", "--per-1k-cached-input", "None")
    model = LanguageModel.objects.get(model_id="gemma2-9b-it")
    assert model.price_per_1k_cached_input_tokens_microcredits is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "at least one of"),
        (["--per-reply", "-1"], "never negative"),
        (["--per-reply", "2", "--per-1k-output", "-0.000001"], "never negative"),
        (["--per-reply", "free"], "'free' is not an amount"),
        (["--per-reply", "0.0000001"], "at most six decimals"),
        (["--per-reply", "NaN"], "not an amount"),
        (["--per-reply", "1e10"], "at most 1,000,000,000"),
        (["--per-reply", ""], "not an amount"),
        (["--per-reply", "none"], "'none' is not an amount"),
        (["--per-1k-cached-input", "0.000001"], "must not cost more than other input"),
        (["--per-1k-input", "1", "--per-1k-cached-input", "1.5"], "must not cost more"),
    ],
)
def test_a_wrong_price_is_refused_and_nothing_is_set(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run("setprice", "--model", "gemma2-9b-it", *arguments)
    assert prices() == (1_000_000, 0, 0)


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(CommandError, match=r"no model 'gpt-5'.*gemma2-9b-it"):
        run("setprice", "--model", "gpt-5", "--per-reply", "2")


def test_issuekey_sets_the_terms_of_the_key(site: Site) -> None:
    made = run_json(
        "issuekey", str(site.channel.id), "--test", "--name", "Nightly", "--expires-at",
        "2999-01-31T00:00:00", "--allow-address", "203.0.113.7", "--allow-address", "2001:db8::/32",
        "--allow-model", "gemma2-9b-it",
    )  # fmt: skip
    key = ApiKey.objects.get(key_last_four=made["key"][-4:], name="Nightly")
    assert key.mode == "test"
    assert key.expires_at == datetime(2999, 1, 31, tzinfo=UTC)
    assert key.allowed_addresses == "203.0.113.7/32\n2001:db8::/32"
    assert key.allowed_models == "gemma2-9b-it"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--allow-address", "shop.example", "allowed_addresses: “shop.example” is not an address"),
        ("--allow-model", "gpt-none", "allowed_models: There is no model “gpt-none”"),
        ("--expires-at", "2020-01-01", "expires_at: This time has passed"),
        ("--name", "x" * 81, "name: Use at most 80 characters, not 81."),
    ],
)
def test_issuekey_refuses_terms_and_ends_no_earlier_key(
    site: Site, option: str, value: str, words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        run("issuekey", str(site.channel.id), "--overlap-seconds", "0", option, value)
    assert ApiKey.objects.filter(revoked_at=None).count() == 2

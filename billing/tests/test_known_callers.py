"""A cached caller is not read again with each request, and no change is ever missed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import throttling
from billing.models import RateWindow
from channels import callers
from channels.callers import Caller
from channels.models import (
    Account,
    ApiKey,
    Channel,
    FixedAnswer,
    LanguageModel,
    Plan,
    Provider,
    RouteHealth,
)
from channels.tests.factories import Site, make_site

pytestmark = pytest.mark.django_db(transaction=True)
ON_POSTGRESQL = connection.vendor == "postgresql"


def ask(site: Site, *, factor: int = 1) -> Caller | None:
    """Ask as a request does. Returns the caller."""
    caller, state = throttling.find_and_count(key=site.api_key, bucket="chat", factor=factor)
    assert (state is not None) == (caller is not None and caller.is_enabled)
    return caller


def plan_of(site: Site) -> Plan:
    """Put the account on a plan whose limits stop nobody."""
    plan = Plan.objects.create(name="wide", requests_per_minute=10_000, daily_quota=10_000)
    Account.objects.filter(id=site.account_id).update(plan=plan)
    return plan


CHANGES: dict[str, Callable[[Site], Any]] = {
    "system_prompt": lambda site: Channel.objects.update(system_prompt="Be brief."),
    "channel_name": lambda site: Channel.objects.update(name="Another"),
    "daily_quota": lambda site: Channel.objects.update(daily_quota=3),
    "requests_per_minute": lambda site: Plan.objects.update(requests_per_minute=5),
    "fallback_replies": lambda site: Channel.objects.update(
        fallback_replies={"daily_quota_reached": "Later."}
    ),
    "is_channel_enabled": lambda site: Channel.objects.update(is_enabled=False),
    "is_account_enabled": lambda site: Account.objects.update(is_enabled=False),
    "has_fixed_answers": lambda site: FixedAnswer.objects.create(
        channel=site.channel, question="Open?", answer="Yes."
    ),
    "is_only_account": lambda site: Account.objects.create(name="Another"),
    "catalogue_mark": lambda site: Provider.objects.create(
        name="another", base_url="https://another.example/v1"
    ),
    "key_name": lambda site: ApiKey.objects.update(name="Another"),
    "allowed_addresses": lambda site: ApiKey.objects.update(allowed_addresses="10.0.0.0/8"),
    "allowed_models": lambda site: ApiKey.objects.update(allowed_models="another"),
    "key_expires": lambda site: ApiKey.objects.update(expires_at="2999-01-01T00:00:00Z"),
    "model": lambda site: LanguageModel.objects.update(price_per_reply_microcredits=7),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_by_the_next_request(site: Site, name: str) -> None:
    plan_of(site)
    before = ask(site)
    assert ask(site) == before == site.caller()
    CHANGES[name](site)
    after = ask(site)
    assert after == site.caller()
    assert getattr(after, name) != getattr(before, name)


def test_a_failing_route_is_seen_by_the_next_request_and_so_is_its_end(site: Site) -> None:
    def mark() -> str | None:
        caller = ask(site)
        assert caller
        return caller.catalogue_mark

    well = mark()
    RouteHealth.objects.create(
        provider_name="default", provider_model="m", failure_count=1, failed_at=timezone.now()
    )
    assert well
    assert mark() is None
    assert mark() is None
    RouteHealth.objects.all().delete()
    assert mark() == well


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
def test_a_key_that_has_ended_is_nobodys(site: Site, clock: Any, column: str) -> None:
    assert ask(site)
    ApiKey.objects.update(**{column: timezone.now()})
    assert ask(site) is None


def test_a_key_that_ends_by_its_time_is_nobodys(site: Site, clock: Any) -> None:
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(seconds=30))
    assert ask(site)
    assert ask(site)
    clock.shift(31)
    assert ask(site) is None


def test_a_lower_limit_counts_from_the_next_request(site: Site) -> None:
    for _ in range(3):
        assert ask(site)
    Channel.objects.update(requests_per_minute=3)
    _, state = throttling.find_and_count(key=site.api_key, bucket="chat", factor=1)
    assert state
    assert not state.is_admitted
    assert RateWindow.objects.get().total == 3


def test_test_keys_and_reads_are_counted_apart_for_a_known_caller_too(site: Site) -> None:
    for _ in range(2):
        for key in (site.api_key, site.test_key):
            for bucket in ("chat", "read"):
                assert throttling.find_and_count(key=key, bucket=bucket, factor=2)[1]
    counted = RateWindow.objects.values_list("bucket", "total").order_by("bucket")
    assert list(counted) == [("chat", 2), ("chat-test", 2), ("read", 2), ("read-test", 2)]


@pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite keeps no versions of rows")
def test_what_is_known_is_not_read_again(site: Site) -> None:
    Channel.objects.update(system_prompt="Be brief.")
    ask(site)
    with CaptureQueriesContext(connection) as captured:
        ask(site)
    assert len(captured) == 1
    assert "system_prompt" not in captured[0]["sql"]


def test_nothing_is_kept_in_a_transaction_where_rows_may_change_again(site: Site) -> None:
    with transaction.atomic():
        for text in ("Be brief.", "Be kind."):
            Channel.objects.update(system_prompt=text)
            caller = ask(site)
            assert caller
            assert caller.system_prompt == text
    assert callers.recall(callers.params_of(site.api_key)["digest"]) is None


@pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite keeps no versions of rows")
def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_KEPT_AT_MOST", 2)
    sites = [make_site(owner=f"owner{number}@example.com") for number in range(3)]
    for site in (*sites, *sites):
        assert ask(site) == site.caller()
    assert len(callers._kept) == 2


@pytest.mark.parametrize("is_restricted", [False, True])
def test_a_known_key_is_counted_in_one_statement_with_or_without_restrictions(
    site: Site, is_restricted: bool
) -> None:
    if is_restricted:
        ApiKey.objects.update(allowed_addresses="10.0.0.0/8")
    ask(site)
    with CaptureQueriesContext(connection) as captured:
        ask(site)
    statements = [one["sql"] for one in captured if one["sql"] not in ("BEGIN", "COMMIT")]
    # SQLite caches no callers, so there a restricted key is counted apart.
    assert len(statements) == (1 if ON_POSTGRESQL else 3 + is_restricted)

"""The terms of a key: what owners may write, who changed them, and what a successor keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from channels import api_keys, key_terms, key_uses
from channels.audit import COMMAND_LINE, Actor
from channels.errors import ChannelChanged, ExcludesLatestCaller, KeyNotActive
from channels.key_terms import NO_TERMS, KeyTerms
from channels.models import ApiKey, AuditEntry, LanguageModel
from channels.tests.factories import Site, note_use
from tests.support.clients import owner_of
from tests.support.threads import run_in_threads


def live(site: Site) -> ApiKey:
    return site.channel.api_keys.select_related("channel").get(mode="live")


def update(key: ApiKey, terms: KeyTerms, **more: Any) -> ApiKey:
    api_keys.update_api_key(api_key=key, terms=terms, actor=COMMAND_LINE, **more)
    key.refresh_from_db()
    return key


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.0/255.255.255.0", "203.0.113.0/24"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("2001:db8:0::1", "2001:db8::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_a_range_is_stored_in_one_spelling(typed: str, stored: str) -> None:
    assert key_terms.clean_ranges([typed, typed]) == [stored]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("shop.example.com", "not an address range"),
        ("203.0.113.0/33", "not an address range"),
        ("203.0.113", "not an address range"),
        ("", "not an address range"),
        ("10.0.0.1-10.0.0.9", "not an address range"),
        ("x" * 5_000, "not an address range"),
        ("203.0.113.7/24", "Write 203.0.113.0/24"),
        ("2001:db8::1/32", "Write 2001:db8::/32"),
        ("::ffff:203.0.113.0/120", "IPv4"),
        ("fe80::1%eth0", "%"),
    ],
)
def test_what_is_no_range_is_refused_with_how_to_write_it(typed: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        key_terms.clean_ranges(["10.0.0.0/8", typed])
    (sentence,) = refused.value.messages
    assert words in sentence
    assert len(sentence) < 200


def test_fifty_ranges_are_enough() -> None:
    ranges = [f"10.0.{number}.0/24" for number in range(51)]
    assert len(key_terms.clean_ranges(ranges[:50])) == 50
    with pytest.raises(ValidationError, match="at most 50 ranges, not 51"):
        key_terms.clean_ranges(ranges)


@pytest.mark.parametrize(
    ("address", "is_inside"),
    [
        ("203.0.113.7", True), ("203.0.114.7", False), ("2001:db8::7", True),
        ("2001:db9::7", False), ("", False),
    ],
)  # fmt: skip
def test_a_range_contains_its_addresses_of_both_versions(address: str, is_inside: bool) -> None:
    ranges = key_terms.read_ranges("203.0.113.0/24\n2001:db8::/32")
    assert key_terms.contains(ranges, address) == is_inside


@pytest.mark.django_db
def test_a_new_key_has_its_terms_and_creator_and_the_log_says_so(site: Site) -> None:
    owner = owner_of(site)
    terms = KeyTerms(
        name=" Checkout ",
        expires_at=timezone.now() + timedelta(days=1),
        allowed_addresses=["203.0.113.7", "203.0.113.7/32"],
        allowed_models=["gemma2-9b-it", "gemma2-9b-it"],
    )
    key = api_keys.issue_api_key(
        channel=site.channel, is_test=False, terms=terms, actor=Actor(owner.email, owner)
    ).record
    key.refresh_from_db()
    assert (key.name, key.created_by, key.expires_at) == ("Checkout", owner, terms.expires_at)
    assert (key.allowed_addresses, key.allowed_models) == ("203.0.113.7/32", "gemma2-9b-it")
    entry = AuditEntry.objects.latest("id")
    assert entry.action == "key.issued"
    assert entry.changes["name"] == ["", "Checkout"]
    assert entry.changes["allowed_addresses"] == ["", "203.0.113.7/32"]


@pytest.mark.django_db
def test_each_invalid_term_is_named_and_no_key_is_made(site: Site) -> None:
    before = ApiKey.objects.count()
    terms = KeyTerms("x" * 500, timezone.now(), ["nowhere"], ["gpt-none", "gemma2-9b-it"])
    with pytest.raises(ValidationError) as refused:
        api_keys.issue_api_key(channel=site.channel, is_test=False, terms=terms)
    told = refused.value.message_dict
    assert told["name"] == ["Use at most 80 characters, not 500."]
    assert "has passed" in told["expires_at"][0]
    assert "nowhere" in told["allowed_addresses"][0]
    assert "gpt-none" in told["allowed_models"][0]
    assert "gemma2-9b-it" in told["allowed_models"][0]  # what to write instead
    assert ApiKey.objects.count() == before


@pytest.mark.django_db
def test_a_change_is_logged_once_and_the_same_form_again_changes_nothing(site: Site) -> None:
    key = live(site)
    for _ in range(2):
        update(key, KeyTerms("Shop", None, ["10.0.0.0/8"]), expected_digest=NO_TERMS.digest())
    (entry,) = AuditEntry.objects.filter(action="key.updated")
    assert entry.changes == {"name": ["", "Shop"], "allowed_addresses": ["", "10.0.0.0/8"]}
    assert entry.target == str(key)
    with pytest.raises(ChannelChanged):
        update(key, KeyTerms("Other"), expected_digest=NO_TERMS.digest())


@pytest.mark.django_db(transaction=True)
def test_of_two_editors_at_once_one_is_told(site: Site) -> None:
    key = live(site)

    def save(number: int) -> bool:
        try:
            api_keys.update_api_key(
                api_key=key,
                terms=KeyTerms(f"Name {number}"),
                actor=COMMAND_LINE,
                expected_digest=NO_TERMS.digest(),
            )
        except ChannelChanged:
            return False
        return True

    assert sum(run_in_threads(save, 5)) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
def test_a_key_that_has_ended_does_not_change_or_come_back(site: Site, column: str) -> None:
    key = live(site)
    ApiKey.objects.filter(id=key.id).update(**{column: timezone.now()})
    with pytest.raises(KeyNotActive):
        update(key, KeyTerms("Again"))


@pytest.mark.django_db
def test_what_stays_is_not_judged_again(site: Site, clock: Any) -> None:
    key = update(live(site), KeyTerms(allowed_models=["gemma2-9b-it"]))
    LanguageModel.objects.filter(model_id="gemma2-9b-it").update(is_enabled=False)
    assert update(key, KeyTerms("Shop", allowed_models=["gemma2-9b-it"])).name == "Shop"


@pytest.mark.django_db
def test_ranges_that_exclude_the_latest_caller_are_saved_only_if_meant(site: Site) -> None:
    key = live(site)
    note_use(key.id, {"REMOTE_ADDR": "198.51.100.7"})
    key_uses.write_all()
    terms = KeyTerms(allowed_addresses=["203.0.113.0/24"])
    with pytest.raises(ExcludesLatestCaller) as refused:
        update(key, terms)
    assert refused.value.address == "198.51.100.7"
    assert live(site).allowed_addresses == ""
    both = KeyTerms(allowed_addresses=["203.0.113.0/24", "198.51.100.0/24"])
    update(key, both)
    update(key, NO_TERMS)
    assert update(key, terms, may_exclude_latest=True).allowed_addresses == "203.0.113.0/24"
    # The ranges stay, so nothing is asked.
    assert update(key, KeyTerms("Shop", allowed_addresses=["203.0.113.0/24"])).name == "Shop"


@pytest.mark.django_db
def test_a_successor_keeps_the_terms_and_the_old_key_ends_no_later_than_it_would(
    site: Site, clock: Any
) -> None:
    end = timezone.now() + timedelta(days=3)
    key = update(live(site), KeyTerms("Shop", end, ["10.0.0.0/8"], ["gemma2-9b-it"]))
    owner = owner_of(site)
    new = api_keys.rotate_api_key(
        api_key=key, overlap=timedelta(days=7), actor=Actor(owner.email, owner)
    ).record
    assert api_keys.terms_of(new) == api_keys.terms_of(key)
    assert new.created_by == owner
    key.refresh_from_db()
    assert (key.expires_at, key.rotated_at, key.revoked_at) == (end, timezone.now(), None)
    with pytest.raises(KeyNotActive):
        api_keys.rotate_api_key(api_key=key, overlap=timedelta(0), actor=COMMAND_LINE)
    again = api_keys.rotate_api_key(api_key=new, overlap=timedelta(hours=1), actor=COMMAND_LINE)
    assert again.record.expires_at == end
    new.refresh_from_db()
    assert new.expires_at == timezone.now() + timedelta(hours=1)

"""S1: every URL of both admin sites, tried with a stranger's ids, in every role.

The matrix comes from the URL maps. A new URL with a new kind of id fails here until this module
knows how to find a stranger's id of that kind.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.urls import URLPattern
from django.utils import timezone

import gateway.urls  # noqa: F401  # registers what the staff admin shows
from billing.models import CreditRequest
from channels import account_keys, audit, channel_changes, key_uses
from channels.models import Account, AccountKey, ApiKey, FixedAnswer, Invitation, Membership, User
from channels.tests.factories import Site, make_site, save_reply
from conversations.models import ChatSession, FailedRequest, Feedback, Message, ReplayedRequest
from gateway.tests.test_policies import CONSOLE
from tests.support.clients import ApiClient, log_in
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

CANARY = "zq-canary"
OUR_APPS = ("channels", "billing", "conversations")


@dataclass
class Tenant:
    """A tenant with a row of everything. Its texts contain the mark."""

    site: Site
    people: dict[str, User]

    @property
    def account(self) -> Account:
        return self.site.channel.account


def make_tenant(name: str, mark: str, provider: FakeProvider) -> Tenant:
    site = make_site(owner=f"owner@{name}.example", name=f"{mark} shop", system_prompt=mark)
    channel, account = site.channel, site.channel.account
    people = {"owner": User.objects.get(email=f"owner@{name}.example")}
    for role in (Membership.Role.EDITOR, Membership.Role.VIEWER):
        person = User.objects.create_user(f"{role}@{name}.example", "x")
        Membership.objects.create(account=account, user=person, role=role)
        people[role.value] = person
    provider.script.append(reply(f"{mark} reply"))
    page = {"url": f"https://{mark}.example/", "title": mark}
    told = ApiClient(site.api_key).chat(f"{mark} question", f"{mark}-session", metadata=page)
    assert told.status_code == 200, told.content
    key_uses.write_all()
    save_reply(channel, mark, f"{mark} answer", f"{mark} wording")
    message = Message.objects.get(channel=channel, role="assistant")
    Feedback.objects.create(message=message, rating=1, note=mark)
    FailedRequest.objects.create(
        channel=channel,
        is_test=False,
        session_id=f"{mark}-session",
        error_code="provider_error",
        created_at=timezone.now(),
    )
    ReplayedRequest.objects.create(
        channel=channel,
        is_test=False,
        session_id=f"{mark}-session",
        request_id=mark,
        message_id=message.id,
        created_at=timezone.now(),
    )
    Invitation.objects.create(
        account=account,
        email=f"{mark}@invited.example",
        role=Membership.Role.VIEWER,
        secret_digest=uuid.uuid4().hex,
        expires_at=timezone.now() + timedelta(days=7),
    )
    CreditRequest.objects.create(
        account=account,
        amount_microcredits=1,
        note=mark,
        asked_by=people["owner"],
        created_at=timezone.now(),
    )
    account_keys.issue_account_key(account=account, name=f"{mark} script", actor=audit.Actor(mark))
    channel_changes.update_channel(
        channel_id=str(channel.id), system_prompt=f"{mark} two", prompt_note=mark
    )
    audit.record("channel.updated", actor=audit.Actor(mark), account_id=account.id, channel=channel)
    return Tenant(site, people)


# How to find a tenant's own id for a URL parameter, and an id that nobody has.
_UNKNOWN_UUID = uuid.UUID("0190a000-0000-7000-8000-00000000dead")
_UNKNOWN_INT = 987_654_321
IDS: dict[str, tuple[Callable[[Tenant], Any], Any]] = {
    "account_id": (lambda one: one.account.pk, _UNKNOWN_INT),
    "channel_id": (lambda one: one.site.channel.id, _UNKNOWN_UUID),
    "key_id": (lambda one: _first(ApiKey, channel=one.site.channel).id, _UNKNOWN_UUID),
    "account_key_id": (lambda one: _first(AccountKey, account=one.account).id, _UNKNOWN_UUID),
    "message_id": (
        lambda one: _first(Message, channel=one.site.channel, role="assistant").id,
        _UNKNOWN_UUID,
    ),
    "failure_pk": (lambda one: _first(FailedRequest, channel=one.site.channel).pk, _UNKNOWN_INT),
    "replay_pk": (lambda one: _first(ReplayedRequest, channel=one.site.channel).pk, _UNKNOWN_INT),
    "session_pk": (lambda one: _first(ChatSession, channel=one.site.channel).pk, _UNKNOWN_INT),
    "answer_id": (lambda one: _first(FixedAnswer, channel=one.site.channel).pk, _UNKNOWN_INT),
    "membership_id": (lambda one: _first(Membership, account=one.account).pk, _UNKNOWN_INT),
    "invitation_id": (lambda one: _first(Invitation, account=one.account).pk, _UNKNOWN_INT),
    "request_id": (lambda one: _first(CreditRequest, account=one.account).pk, _UNKNOWN_INT),
    "month": (lambda one: f"{timezone.now():%Y-%m}", "2999-12"),
    "number": (lambda one: 2, _UNKNOWN_INT),
}


def _first(model: Any, **where: Any) -> Any:
    return model._default_manager.filter(**where).order_by("pk")[0]


@pytest.fixture
def mine(provider: FakeProvider, db: None) -> Tenant:
    return make_tenant("mine", "own", provider)


@pytest.fixture
def theirs(provider: FakeProvider, db: None) -> Tenant:
    return make_tenant("theirs", CANARY, provider)


def names_of(pattern: URLPattern) -> list[str]:
    return list(pattern.pattern.converters)


def address_of(pattern: URLPattern, values: dict[str, Any]) -> str:
    return "/" + re.sub(
        r"<(?:\w+:)?(\w+)>", lambda match: str(values[match.group(1)]), str(pattern.pattern)
    )


def rows_of(account: Account) -> dict[str, Any]:
    """Return everything in the database that belongs to an account."""
    found: dict[str, Any] = {}
    for app in OUR_APPS:
        for model in apps.get_app_config(app).get_models():
            label = model._meta.label
            for path in ("account", "channel__account", "credit_account__account"):
                if model._meta.get_fields() and _has_path(model, path):
                    rows = model._default_manager.filter(**{path: account}).order_by("pk")
                    found[label] = list(rows.values())
                    break
    found["account"] = list(Account.objects.filter(pk=account.pk).values())
    return found


def _has_path(model: Any, path: str) -> bool:
    first = path.split("__")[0]
    return any(field.name == first for field in model._meta.get_fields())


WITH_IDS = [pattern for pattern in CONSOLE if names_of(pattern)]
WITHOUT_IDS = [pattern for pattern in CONSOLE if not names_of(pattern) and pattern.name != "logout"]


def test_every_kind_of_id_is_known_to_this_matrix() -> None:
    assert WITH_IDS
    unknown = {name for pattern in WITH_IDS for name in names_of(pattern)} - set(IDS)
    assert not unknown, f"Tell IDS how to find a stranger's {unknown}."


def foreign_choices(names: list[str], mine: Tenant, theirs: Tenant) -> Iterator[dict[str, str]]:
    """Yield a choice of own or foreign for each name, with at least one foreign."""
    for choice in itertools.product(("mine", "foreign"), repeat=len(names)):
        if "foreign" in choice and choice != ("mine",) * len(names):
            # Version numbers and months are not unique to an account: only the channel or the
            # account can be foreign.
            chosen = dict(zip(names, choice, strict=True))
            owner = chosen.get("channel_id") or chosen.get("account_id", "mine")
            if "foreign" in (chosen.get("number"), chosen.get("month")) and owner == "mine":
                continue
            yield chosen


@pytest.mark.parametrize("pattern", WITH_IDS, ids=lambda pattern: str(pattern.name))
def test_a_strangers_id_is_answered_as_an_unknown_one(
    pattern: URLPattern, mine: Tenant, theirs: Tenant
) -> None:
    before = rows_of(theirs.account)
    # In one test, because creating two tenants takes longer than trying most URLs.
    for role in ("owner", "editor", "viewer"):
        client = log_in(mine.people[role], raise_request_exception=False)
        for chosen in foreign_choices(names_of(pattern), mine, theirs):
            values = {name: IDS[name][0](mine) for name in chosen}
            foreign = {name for name in chosen if chosen[name] == "foreign"}
            stranger = address_of(
                pattern, values | {name: IDS[name][0](theirs) for name in foreign}
            )
            unknown = address_of(pattern, values | {name: IDS[name][1] for name in foreign})
            for method in ("get", "post"):
                seen = getattr(client, method)(stranger)
                wanted = getattr(client, method)(unknown)
                expect_alike(seen, wanted, (role, method, stranger), foreign)
        assert rows_of(theirs.account) == before, role


def expect_alike(seen: Any, wanted: Any, asked: tuple[str, str, str], foreign: set[str]) -> None:
    """Assert that a stranger's id and an unknown one get exactly the same response."""
    if seen.status_code == 302 and asked[1] == "get":
        # A URL only for forms redirects to the page above it, whatever id it gets.
        assert not {"account_id", "channel_id"} & foreign, asked
        assert wanted.status_code == 302, asked
        assert shape_of(seen) == shape_of(wanted), asked
        return
    assert seen.status_code in (403, 404, 405), (asked, seen.status_code)
    assert seen.status_code == wanted.status_code, asked
    assert seen.content == wanted.content, asked


def shape_of(response: Any) -> str:
    """Return where a response leads, without ids, because it may contain the requested ones."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", response["Location"])


@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_no_page_shows_a_strangers_words(role: str, mine: Tenant, theirs: Tenant) -> None:
    client = log_in(mine.people[role], raise_request_exception=False)
    own = {name: find(mine) for name, (find, _) in IDS.items()}
    their_channel = theirs.site.channel.id
    for pattern in CONSOLE:
        if pattern.name == "logout":
            continue
        path = address_of(pattern, own)
        for query in (
            "",
            f"?channel={their_channel}",
            f"?channel={their_channel}&range=30d",
            f"?q={CANARY[:4]}",
            f"?page={CANARY[:4]}",
            f"?session={_first(ChatSession, channel=their_channel).pk}",
            f"?account={theirs.account.pk}",
        ):
            response = client.get(path + query)
            assert response.status_code < 500, (path, query, response.status_code)
            body = b"".join(response.streaming_content) if response.streaming else response.content
            text = body.decode(errors="replace").replace(query[1:], "")
            asked = query.partition("=")[2]
            # The filter's field may repeat what was searched for, but not the tenant's own text.
            assert CANARY not in text.replace(asked, "") if asked else CANARY not in text, (
                path,
                query,
            )
            assert theirs.site.api_key[-8:] not in text


@pytest.mark.parametrize("pattern", WITHOUT_IDS, ids=lambda pattern: str(pattern.name))
def test_a_strangers_id_in_a_form_has_no_effect(
    pattern: URLPattern, mine: Tenant, theirs: Tenant
) -> None:
    client = log_in(mine.people["owner"], raise_request_exception=False)
    before = rows_of(theirs.account)
    form = {
        "account": theirs.account.pk,
        "account_id": theirs.account.pk,
        "channel": theirs.site.channel.id,
        "owner": theirs.people["owner"].pk,
        "credits": "1000000",
        "balance_microcredits": "1000000",
        "is_staff": "true",
        "base_url": "http://127.0.0.1:1/",
        "plan": "1",
    }
    assert client.post(address_of(pattern, {}), form).status_code < 500
    assert rows_of(theirs.account) == before
    person = User.objects.get(pk=mine.people["owner"].pk)
    assert not person.is_staff
    assert not person.is_superuser


@pytest.mark.parametrize("kind", ["owner", "editor", "viewer", "stranger"])
def test_no_page_of_the_staff_opens_to_others(kind: str, mine: Tenant, theirs: Tenant) -> None:
    user = theirs.people["owner"] if kind == "stranger" else mine.people[kind]
    client = log_in(user, raise_request_exception=False)
    for model in admin.site._registry:
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        row = model._default_manager.first()
        pages = [base, f"{base}add/", f"{base}?q={CANARY}"]
        if row is not None:
            pages += [f"{base}{row.pk}/{page}" for page in ("change/", "delete/", "history/")]
        for page in pages:
            for method in ("get", "post"):
                response = getattr(client, method)(page)
                assert response.status_code in (302, 403), (page, response.status_code)
                assert CANARY.encode() not in response.content
    for page in ("autocomplete/", "search/?s=shop&extended=1", "jsi18n/", "health/"):
        response = client.get(f"/admin/{page}")
        assert response.status_code in (302, 403, 404), page

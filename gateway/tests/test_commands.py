"""The commands for set-up, changes, and clean-up: their output, and that they do all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from billing import admission, holds
from billing.holds import PlacedHold
from billing.models import CreditAccount, Hold, LedgerEntry
from channels import api_keys
from channels.models import Account, Channel, User
from channels.tests.factories import Site
from conversations.models import ChatSession, Message
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

NEW = ["--owner", "new@example.com", "--name", "Shop"]


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def run_checked(*arguments: str) -> str:
    """Run a command with its checks, as the command line does."""
    out = StringIO()
    call_command(*arguments, stdout=out, skip_checks=False)
    return out.getvalue()


def run_json(*arguments: str) -> Any:
    """Run a command and return the one JSON object it prints."""
    (line,) = run(*arguments, "--json").splitlines()
    return json.loads(line)


def test_a_command_that_writes_looks_at_the_database_first(site: Site) -> None:
    site.channel.api_keys.update(encryption_key_id="gone")
    before = row_counts()
    with pytest.raises(SystemCheckError, match=r"channels\.E001"):
        run_checked("setprice", "--model", "gemma2-9b-it", "--per-reply", "2")
    with pytest.raises(SystemCheckError, match=r"channels\.E001"):
        run_checked("createchannel", *NEW)
    assert row_counts() == before


def test_a_command_that_only_reads_is_there_to_find_out(site: Site) -> None:
    site.channel.api_keys.update(encryption_key_id="gone")
    assert "0 differences" in run_checked("verifyledger")


def row_counts() -> dict[str, int]:
    return {model._meta.label: model._default_manager.count() for model in apps.get_models()}


def values_of(channel: Channel) -> dict[str, Any]:
    return dict(Channel.objects.filter(id=channel.id).values()[0])


# --- createchannel --------------------------------------------------------------------------------


def test_createchannel_makes_account_channel_keys_and_credits(provider: FakeProvider) -> None:
    result = run_json(
        "createchannel", *NEW, "--model", "gemma2-9b-it", "--credits", "12.5",
        "--requests-per-minute", "7", "--daily-quota", "9", "--system-prompt", "Be kind.",
    )  # fmt: skip
    assert set(result) == {"channel_id", "api_key", "test_key"}
    channel = Channel.objects.get(id=result["channel_id"])
    assert (channel.name, channel.model.model_id) == ("Shop", "gemma2-9b-it")
    assert (channel.requests_per_minute, channel.daily_quota) == (7, 9)
    assert channel.system_prompt == "Be kind."
    body = ApiClient(result["api_key"]).chat().json()
    assert body["credits"] == {"charged": "1.000000", "remaining": "11.500000"}
    assert ApiClient(result["test_key"]).chat().status_code == 200


def test_createchannel_tells_people_the_keys_too() -> None:
    lines = run("createchannel", *NEW).splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == ["Channel", "Live key", "Test key"]
    assert lines[2].split()[-1].startswith("amgai_test_")
    assert CreditAccount.objects.count() == 0


def test_createchannel_adds_to_an_account_there_is(site: Site) -> None:
    result = run_json("createchannel", "--owner", "OWNER@example.com", "--name", "Second")
    assert Channel.objects.get(id=result["channel_id"]).account_id == site.account_id
    assert (Account.objects.count(), User.objects.count()) == (1, 1)


WRONG_FIELDS = [
    (["--model", "gpt-5"], r"no model 'gpt-5'.*llama-3\.3-70b-versatile"),
    (["--credits", "lots"], "'lots' is not an amount"),
    (["--credits", "0.0000001"], "at most six decimals"),
    (["--credits", "-5"], "more than 0"),
    (["--credits", "1e10"], "at most 1,000,000,000"),
    (["--requests-per-minute", "0"], "requests_per_minute: "),
    (["--requests-per-minute", "-1"], "requests_per_minute: "),
    (["--requests-per-minute", "100001"], "requests_per_minute: "),
    (["--requests-per-minute", "many"], "invalid int value"),
    (["--daily-quota", "0"], "daily_quota: "),
    (["--daily-quota", "-1"], "daily_quota: "),
    (["--daily-quota", "1" + "0" * 30], "daily_quota: "),
    (["--daily-quota", "1.5"], "invalid int value"),
    (["--system-prompt", "x" * 16_001], "system_prompt: "),
    (["--name", ""], "name: "),
    (["--name", "x" * 121], "name: "),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *WRONG_FIELDS,
        (["--owner", "nobody"], "valid e-?mail address"),
        (["--owner", ""], "cannot be blank"),
        (["--owner", "a b@example.com"], "valid e-?mail address"),
    ],
)
def test_createchannel_refuses_and_leaves_nothing_behind(
    arguments: list[str], message: str
) -> None:
    before = row_counts()
    with pytest.raises(CommandError, match=message):
        run("createchannel", *NEW, *arguments)
    assert row_counts() == before


@pytest.mark.parametrize("left_out", ["--owner", "--name"])
def test_createchannel_needs_an_owner_and_a_name(left_out: str) -> None:
    position = NEW.index(left_out)
    with pytest.raises(CommandError, match=left_out):
        run("createchannel", *NEW[:position], *NEW[position + 2 :])


# --- setchannel -----------------------------------------------------------------------------------


def test_setchannel_changes_what_is_given_for_the_next_request(
    site: Site, provider: FakeProvider
) -> None:
    channel_id = str(site.channel.id)
    assert run_json("setchannel", channel_id, "--requests-per-minute", "5") == {
        "channel_id": channel_id,
        "name": "Shop",
        "enabled": True,
        "model": "llama-3.3-70b-versatile",
        "requests_per_minute": 5,
        "daily_quota": 1000,
    }
    api = ApiClient(site.api_key)
    run("setchannel", channel_id, "--model", "gemma2-9b-it", "--credits", "1", "--name", "New")
    body = api.chat().json()
    assert (body["model"], body["credits"]["remaining"]) == ("gemma2-9b-it", "100.000000")
    assert run_json("setchannel", channel_id, "--enabled", "no")["enabled"] is False
    assert api.chat().status_code == 403
    run("setchannel", channel_id, "--enabled", "yes", "--system-prompt", "")
    assert api.chat().status_code == 200
    site.channel.refresh_from_db()
    assert (site.channel.name, site.channel.requests_per_minute) == ("New", 5)


def test_setchannel_can_move_a_channel_to_another_owner(site: Site, stranger: Site) -> None:
    run("setchannel", str(site.channel.id), "--owner", "stranger@example.com", "--credits", "1")
    site.channel.refresh_from_db()
    assert site.channel.account_id == stranger.account_id
    balances = CreditAccount.objects.values_list("account_id", "balance_microcredits")
    assert dict(balances)[stranger.account_id] == 101_000_000


@pytest.mark.parametrize(
    ("arguments", "message"), [*WRONG_FIELDS, (["--enabled", "maybe"], "invalid choice")]
)
def test_setchannel_refuses_and_changes_nothing(
    site: Site, arguments: list[str], message: str
) -> None:
    before = row_counts(), values_of(site.channel)
    with pytest.raises(CommandError, match=message):
        run(
            "setchannel", str(site.channel.id), "--owner", "owner@example.com",
            "--daily-quota", "7", *arguments,
        )  # fmt: skip
    assert (row_counts(), values_of(site.channel)) == before


def test_setchannel_moves_to_no_account_that_a_typing_error_would_make(site: Site) -> None:
    before = row_counts()
    with pytest.raises(CommandError, match="owns an account"):
        run("setchannel", str(site.channel.id), "--owner", "new@example.com")
    assert row_counts() == before


@pytest.mark.parametrize("channel_id", ["x", "00000000-0000-0000-0000-000000000001", ""])
def test_setchannel_refuses_an_unknown_channel(channel_id: str) -> None:
    before = row_counts()
    with pytest.raises(CommandError, match=f"no channel '{channel_id}'"):
        run("setchannel", channel_id, "--credits", "1")
    assert row_counts() == before


# --- grantcredits ---------------------------------------------------------------------------------


GRANT = ["grantcredits", "--owner", "owner@example.com", "--reason", "Invoice 1"]


def test_grantcredits_adds_an_entry(site: Site) -> None:
    result = run_json(*GRANT, "--amount", "2.5")
    assert result == {
        "entry": 2,
        "granted": True,
        "amount": "2.500000",
        "balance_after": "102.500000",
    }
    entry = LedgerEntry.objects.get(sequence=2)
    assert (entry.reason, entry.actor, entry.reference) == ("Invoice 1", "command line", None)
    assert "Granted: 1.000000" in run(*GRANT, "--amount", "1")


def test_the_same_reference_grants_once(site: Site) -> None:
    first = run_json(*GRANT, "--amount", "5", "--reference", "inv-1")
    run(*GRANT, "--amount", "1", "--reference", "inv-2")
    again = run_json(*GRANT, "--amount", "5.0", "--reference", "inv-1")
    assert again == first | {"granted": False}
    assert "before" in run(*GRANT, "--amount", "5", "--reference", "inv-1")
    assert CreditAccount.objects.get().balance_microcredits == 106_000_000
    with pytest.raises(CommandError, match="'inv-1' was used for another amount"):
        run(*GRANT, "--amount", "6", "--reference", "inv-1")
    assert CreditAccount.objects.get().balance_microcredits == 106_000_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--amount", "0"], "more than 0"),
        (["--amount", "-1"], "more than 0"),
        (["--amount", "ten"], "'ten' is not an amount"),
        (["--amount", "1e-7"], "at most six decimals"),
        (["--amount", "inf"], "not an amount"),
        (["--amount", "1000000000.000001"], "at most 1,000,000,000"),
        (["--amount", "1", "--owner", "nobody@example.com"], "Nobody with the address"),
        (["--amount", "1", "--owner", ""], "Nobody with the address"),
        (["--amount", "1", "--reason", "x" * 201], "(?i)reason"),
        (["--amount", "1", "--reference", "x" * 101], "(?i)reference"),
        (["--amount", "1", "--expires-at", "soon"], "'soon' is not a time"),
        (["--amount", "1", "--expires-at", "2020-01-01T00:00:00Z"], "in the future"),
        (["--amount", "1", "--category", "gift"], "invalid choice"),
        ([], "--amount"),
    ],
)
def test_grantcredits_refuses_and_grants_nothing(
    site: Site, arguments: list[str], message: str
) -> None:
    before = row_counts()
    with pytest.raises(CommandError, match=message):
        run(*GRANT, *arguments)
    assert row_counts() == before
    assert CreditAccount.objects.get().balance_microcredits == 100_000_000


# --- expireholds, expiresessions, verifyledger ----------------------------------------------------


def place_hold(site: Site, amount: int = 1_000_000) -> PlacedHold:
    now = timezone.now()
    return admission.place_hold(
        caller=site.caller(),
        amount_microcredits=amount,
        now=now,
        expires_at=now + timedelta(seconds=70),
        request_id="r1",
    )


def test_expireholds_releases_what_never_came_back(
    site: Site, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "EXPIRE_BATCH", 2)
    for _ in range(5):
        place_hold(site)
    assert run_json("expireholds") == {"expired": 0}
    clock.shift(71)
    place_hold(site)
    assert run_json("expireholds") == {"expired": 5}
    assert CreditAccount.objects.get().held_microcredits == 1_000_000
    assert Hold.objects.filter(state="expired").count() == 5
    assert run("expireholds") == "Released 0 expired holds.\n"
    assert run_json("verifyledger")["differences"] == 0


def test_expiresessions_closes_and_then_erases(
    site: Site, provider: FakeProvider, clock: Any, settings: Settings
) -> None:
    def counts(closed: int, erased: int) -> dict[str, int]:
        return {"closed_sessions": closed, "erased_messages": erased, "erased_accounts": 0}

    ApiClient(site.api_key).chat("an old secret")
    assert run_json("expiresessions") == counts(0, 0)
    clock.shift(timedelta(hours=25))
    assert run_json("expiresessions") == counts(1, 0)
    assert ChatSession.objects.get().closed_at is not None
    clock.shift(timedelta(days=settings.SESSION_RETENTION_DAYS + 1))
    assert run_json("expiresessions") == counts(0, 2)
    assert set(Message.objects.values_list("content", flat=True)) == {""}
    assert "Closed 0 sessions" in run("expiresessions")
    assert run_json("verifyledger")["differences"] == 0


def test_rollupusage_adds_up_and_mends(site: Site, provider: FakeProvider, clock: Any) -> None:
    api = ApiClient(site.api_key)
    api.chat()
    clock.shift(timedelta(hours=1, minutes=10))
    assert run_json("rollupusage") == {"added": 13, "mended": 0}  # since midnight
    Message.objects.filter(role="assistant").update(charged_microcredits=7)
    assert run("rollupusage") == "Added up 0 hours and days, corrected 1.\n"
    usage = api.get("/api/usage").json()
    assert usage["total"]["credits"] == "0.000007"


def test_verifyledger_proves_books_that_agree(
    site: Site, stranger: Site, provider: FakeProvider
) -> None:
    for one in (site, stranger):
        ApiClient(one.api_key).chat()
    result = run_json("verifyledger")
    assert (result["entries"], result["differences"], result["details"]) == (4, 0, [])
    assert "4 entries" in run("verifyledger")


def spoil_balance(site: Site) -> None:
    CreditAccount.objects.update(balance_microcredits=99_000_001)


def spoil_hold(site: Site) -> None:
    CreditAccount.objects.update(held_microcredits=5)


def spoil_count(site: Site) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_dailyusage SET message_count = message_count + 1")


def spoil_message(site: Site) -> None:
    Message.objects.filter(role="assistant").update(charged_microcredits=7)


@pytest.mark.parametrize("spoil", [spoil_balance, spoil_hold, spoil_count, spoil_message])
def test_verifyledger_fails_on_any_difference(
    site: Site, provider: FakeProvider, spoil: Callable[[Site], None]
) -> None:
    ApiClient(site.api_key).chat()
    spoil(site)
    out = StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("verifyledger", "--json", stdout=out)
    assert caught.value.code == 1
    result = json.loads(out.getvalue())
    assert result["differences"] == len(result["details"]) >= 1


# --- firstrun -------------------------------------------------------------------------------------


def test_firstrun_makes_the_first_login_once(settings: Settings, provider: FakeProvider) -> None:
    settings.FIRST_LOGIN_PASSWORD = "chosen-by-setup"
    first = run_json("firstrun")
    assert first == {
        "created": True,
        "email": "owner@example.com",
        "password": "chosen-by-setup",
        "api_key": first["api_key"],
        "test_key": first["test_key"],
    }
    assert ApiClient(first["api_key"]).chat().json()["credits"]["remaining"] == "999.000000"
    assert first["test_key"].startswith("amgai_test_")
    before = row_counts()
    assert run_json("firstrun") == first | {"created": False, "password": None}
    assert row_counts() == before
    assert "already" in run("firstrun")


def test_firstrun_keeps_a_changed_password_to_itself(settings: Settings) -> None:
    settings.FIRST_LOGIN_PASSWORD = "chosen-by-setup"
    run("firstrun")
    user = User.objects.get()
    assert user.has_first_password
    user.set_password("my own now")
    user.save()
    assert run_json("firstrun")["password"] is None
    user.refresh_from_db()
    assert user.check_password("my own now")
    assert not user.has_first_password


def test_pages_ask_for_another_password_until_there_is_one(
    settings: Settings, client: Client
) -> None:
    settings.FIRST_LOGIN_PASSWORD = "chosen-by-setup"
    run("firstrun")
    form = {"login": "owner@example.com", "password": "chosen-by-setup"}
    assert client.post("/accounts/login/", form).status_code == 302
    asks = "still uses the password that setup chose"
    for page in ("/", "/admin/", "/credits/"):
        assert asks in client.get(page, follow=True).content.decode()
    new = dict.fromkeys(("password1", "password2"), "my-own-password-now")
    new["oldpassword"] = "chosen-by-setup"
    assert client.post("/accounts/password/change/", new).status_code == 302
    assert not User.objects.get().has_first_password
    assert asks not in client.get("/").content.decode()


def test_a_password_of_before_the_reminder_is_noticed(settings: Settings) -> None:
    settings.FIRST_LOGIN_PASSWORD = "chosen-by-setup"
    run("firstrun")
    User.objects.update(has_first_password=False)
    assert "chosen-by-setup" not in run("firstrun")
    assert User.objects.get().has_first_password


def test_firstrun_leaves_an_installation_with_people_alone(site: Site) -> None:
    User.objects.filter(email="owner@example.com").update(email="admin@company.example")
    before = row_counts()
    assert run_json("firstrun") == {
        "created": False,
        "email": "owner@example.com",
        "password": None,
        "api_key": None,
        "test_key": None,
    }
    assert row_counts() == before


def test_firstrun_without_a_chosen_password_makes_a_login_that_nobody_can_use(
    settings: Settings,
) -> None:
    settings.FIRST_LOGIN_PASSWORD = ""
    assert run_json("firstrun")["password"] is None
    assert not User.objects.get().check_password("")
    assert not User.objects.get().has_usable_password()


def test_firstrun_names_keys_that_work(settings: Settings, clock: Any) -> None:
    """After a rotation the old key is still valid for a while or gone. The new one is shown."""
    first = run_json("firstrun")
    channel = Channel.objects.get()
    clock.shift(60)
    new = api_keys.issue_api_key(channel=channel, is_test=False)
    old = channel.api_keys.get(mode="live", key_last_four=first["api_key"][-4:])
    type(old).objects.filter(id=old.id).update(expires_at=timezone.now() + timedelta(hours=1))
    clock.shift(timedelta(hours=2))
    assert run_json("firstrun")["api_key"] == new.clear

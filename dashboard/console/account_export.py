"""Everything of an account as one ZIP archive, written while it is sent.

It holds no connection while the client reads, and only a few hundred rows at a time. So the files
are not of one moment: what changes meanwhile may be in one of them and not in another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

import orjson
from django.db.models import Model, QuerySet
from django.http import QueryDict
from django.utils import timezone

from billing import account_statement
from billing.balance import get_balance
from billing.models import CreditRequest, SpendCap
from channels import fixed_answers
from channels.models import (
    ANSWER_SETTINGS,
    Account,
    AccountKey,
    ApiKey,
    AuditEntry,
    Channel,
    FixedAnswer,
    Invitation,
    Membership,
    PromptVersion,
)
from common import db
from common.money import format_credits
from common.pages.spreadsheets import lines
from common.text import one_line
from conversations.archive.sessions import Search
from conversations.archive.transcripts import iterate_transcripts
from conversations.usage.request_filter import RequestFilter
from dashboard.console import audit_log, conversation_files, ledger, requests, statements

ROWS_A_READ = 200
_README = """\
Everything that the gateway keeps about the account "{name}", as of {now:%Y-%m-%d %H:%M} UTC.

account.json            name, plan, time zone, balance
people.csv              members and invitations
channels.jsonl          channels with their settings, spend caps and the published prompt
prompt_versions.jsonl   every version of every prompt
saved_replies.jsonl     saved replies
keys.csv                API keys and account keys by their last four characters, never the keys
conversations.jsonl     conversations with live and test keys; erased text is empty
requests-live.csv       every request with live keys
requests-test.csv       every request with test keys
ledger.csv              every change of the balance
credit_requests.jsonl   requests for credits and the decisions
statements/             each month's statement
audit-log.csv           who did what

Times are UTC unless a column says otherwise. In .jsonl files each line is a JSON object. The files
were written one after the other, so what changed meanwhile may be in one and not in another.
"""

File = tuple[str, Iterable[str]]
Row = TypeVar("Row", bound=Model)


def iterate_files(account: Account) -> Iterator[File]:
    """Yield the name and the text of each file."""
    db.release_connection()
    name = one_line(account.name)
    yield "README.txt", [_README.format(name=name, now=timezone.now())]
    yield "account.json", [_json(_describe_account(account))]
    yield "people.csv", lines(_PEOPLE, _people(account))
    channels = Channel.objects.filter(account=account).select_related("model", "fallback_model")
    yield "channels.jsonl", _objects(channels.prefetch_related("spend_caps"), _describe_channel)
    of_account = {"channel__account": account}
    versions = PromptVersion.objects.filter(**of_account)
    versions = versions.select_related("author", "fallback_model")
    yield "prompt_versions.jsonl", _objects(versions, _describe_version)
    replies = FixedAnswer.objects.filter(**of_account).prefetch_related("wordings")
    yield "saved_replies.jsonl", _objects(replies, _describe_reply)
    yield "keys.csv", lines(_KEYS, _keys(account))
    yield "conversations.jsonl", _conversations(account)
    for traffic in ("live", "test"):
        yield f"requests-{traffic}.csv", _requests(account, is_test=traffic == "test")
    entries = account_statement.iterate_entries(
        account_id=account.id, chosen=account_statement.Filter()
    )
    yield "ledger.csv", lines(ledger.CSV_HEADER, ledger.csv_rows(entries))
    asked = CreditRequest.objects.filter(account=account).select_related("asked_by", "decided_by")
    yield "credit_requests.jsonl", _objects(asked, _describe_request)
    for month, text in statements.iterate_files(account):
        yield f"statements/{month}", text
    yield "audit-log.csv", audit_log.csv_of(AuditEntry.objects.filter(account=account))


# --- Reading ------------------------------------------------------------------------------------


def _rows(found: QuerySet[Row]) -> Iterator[Row]:
    """Yield rows by primary key, reading them in pieces."""
    ordered = found.order_by("pk")

    def read(last: Row | None) -> list[Row]:
        following = ordered if last is None else ordered.filter(pk__gt=last.pk)
        return list(following[:ROWS_A_READ])

    for piece in db.read_in_pieces(read, size=ROWS_A_READ):
        yield from piece


def _objects(found: QuerySet[Row], describe: Callable[[Row], dict[str, Any]]) -> Iterator[str]:
    return (_json(describe(row)) for row in _rows(found))


def _json(value: dict[str, Any]) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z).decode() + "\n"


def _conversations(account: Account) -> Iterator[str]:
    found = (iterate_transcripts(Search(account.id, is_test=is_test)) for is_test in (False, True))
    return conversation_files.json_lines(itertools.chain.from_iterable(found))


def _requests(account: Account, *, is_test: bool) -> Iterator[str]:
    """Yield the requests since the first channel. A channel that moved in may be older."""
    channels = Channel.objects.filter(account=account).order_by("created_at")
    first = channels.values_list("created_at", flat=True).first() or account.created_at
    form = requests.RequestsForm(QueryDict(), account=account)
    db.release_connection()
    day = timedelta(days=1)
    chosen = RequestFilter(account.id, first - day, timezone.now() + day, is_test=is_test)
    return requests.csv_of(chosen, form)


# --- Words --------------------------------------------------------------------------------------


def _moment(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if value else ""


def _describe_account(account: Account) -> dict[str, Any]:
    balance = get_balance(account_id=account.id, now=timezone.now())
    db.release_connection()
    return {
        "id": account.id,
        "name": account.name,
        "plan": account.plan.name if account.plan else None,
        "is_enabled": account.is_enabled,
        "requires_second_factor": account.requires_second_factor,
        "time_zone": account.time_zone,
        "created_at": account.created_at,
        "balance": format_credits(balance.balance),
        "held": format_credits(balance.held),
        "warn_below": format_credits(balance.low_balance),
    }


_PEOPLE = ("state", "email", "name", "role", "since_utc", "until_utc", "invited_by")


def _people(account: Account) -> Iterator[tuple[Any, ...]]:
    for one in _rows(Membership.objects.filter(account=account).select_related("user")):
        user = one.user
        since = _moment(one.created_at)
        yield ("member", user.email, user.get_full_name(), one.role, since, "", "")
    for open_one in _rows(Invitation.objects.filter(account=account).select_related("invited_by")):
        inviter = open_one.invited_by.email if open_one.invited_by else ""
        since, until = _moment(open_one.created_at), _moment(open_one.expires_at)
        state = "closed invitation" if open_one.closed_at else "open invitation"
        yield (state, open_one.email, "", open_one.role, since, until, inviter)


def _answer_settings(row: Channel | PromptVersion) -> dict[str, Any]:
    found = {name: getattr(row, name) for name in ANSWER_SETTINGS}
    return found | {"fallback_model": row.fallback_model and row.fallback_model.model_id}


_CHANNEL = (
    "id", "name", "external_id", "site_url", "tags", "is_enabled", "system_prompt",
    "prompt_version", "requests_per_minute", "daily_quota", "fallback_replies", "created_at",
)  # fmt: skip


def _describe_channel(channel: Channel) -> dict[str, Any]:
    caps: Iterable[SpendCap] = channel.spend_caps.all()
    return {name: getattr(channel, name) for name in _CHANNEL} | {
        "model": channel.model.model_id,
        **_answer_settings(channel),
        "spend_caps": [
            {
                "key_id": cap.key_id,
                "day": _credits(cap.day_limit_microcredits),
                "month": _credits(cap.month_limit_microcredits),
            }
            for cap in caps
        ],
    }


def _credits(microcredits: int | None) -> str | None:
    return None if microcredits is None else format_credits(microcredits)


def _describe_version(version: PromptVersion) -> dict[str, Any]:
    names = ("channel_id", "number", "text", "note", "created_at")
    return {name: getattr(version, name) for name in names} | {
        **_answer_settings(version),
        "author": version.author.email if version.author else None,
    }


def _describe_reply(reply: FixedAnswer) -> dict[str, Any]:
    return {
        "channel_id": reply.channel_id,
        "question": reply.question,
        "wordings": fixed_answers.list_wordings(reply)[1:],
        "answer": reply.answer,
    }


def _describe_request(asked: CreditRequest) -> dict[str, Any]:
    return {
        "created_at": asked.created_at,
        "asked_by": asked.asked_by.email if asked.asked_by else None,
        "amount": format_credits(asked.amount_microcredits),
        "note": asked.note,
        "state": asked.state,
        "decided_at": asked.decided_at,
        "reason": asked.decision_reason,
        "granted": _credits(asked.granted_microcredits),
        "reference": asked.reference,
    }


_KEYS = (
    "kind", "id", "name", "key", "channel_id", "created_at_utc", "created_by", "expires_at_utc",
    "revoked_at_utc", "last_used_at_utc", "allowed_addresses", "allowed_models",
)  # fmt: skip


def _keys(account: Account) -> Iterator[tuple[Any, ...]]:
    keys = ApiKey.objects.filter(channel__account=account).select_related("created_by", "use")
    for key in _rows(keys.defer("key_ciphertext", "key_digest")):
        used_at = key.use.last_used_at if hasattr(key, "use") else None
        terms = (key.allowed_addresses, key.allowed_models)
        yield (key.mode, str(key.id), *_shared(key, str(key.channel_id), used_at), *terms)
    account_keys = AccountKey.objects.filter(account=account).select_related("created_by")
    for one in _rows(account_keys.defer("key_ciphertext", "key_digest")):
        yield ("account", str(one.id), *_shared(one, "", one.last_used_at), "", "")


def _shared(key: ApiKey | AccountKey, channel_id: str, used_at: datetime | None) -> tuple[str, ...]:
    return (
        key.name,
        key.masked,
        channel_id,
        _moment(key.created_at),
        key.created_by.email if key.created_by else "",
        _moment(key.expires_at),
        _moment(key.revoked_at),
        _moment(used_at),
    )

"""Writes realistic tenants with balanced books, fast, for trying out and measuring pages.

Writes one day at a time, and each day in the order of time, as a real installation would.
Neighbouring rows then belong to different tenants, so page times are realistic.
"""

from __future__ import annotations

import random
import uuid
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Any

from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.models import Max

from billing.models import CreditAccount, CreditGrant, DailyUsage, Hold, LedgerEntry
from channels.audit import Actor
from channels.models import (
    Account,
    AuditEntry,
    Channel,
    LanguageModel,
    Membership,
    PromptVersion,
    User,
)
from conversations.models import ChatSession, FailedRequest, Feedback, Message
from gateway.demo import bulk, words
from gateway.provisioning import FIRST_EMAIL

DEMO_DOMAIN = "demo.example"
# The first login's share, so that its pages have something to show.
OWNER_CHANNELS_SHARE, OWNER_MESSAGES_SHARE = 0.02, 0.05
TEST_SHARE, STATELESS_SHARE, FAILED_SHARE, RATED_SHARE = 0.03, 0.05, 0.015, 0.01
ACTOR = Actor("demo data")
# Ids do not depend on the seed, so that the same set can be created twice.
_ids = random.Random()  # noqa: S311  # they guard nothing


@dataclass(frozen=True, slots=True)
class Size:
    """How much to create."""

    channels: int
    messages: int
    days: int
    seed: int = 1


@dataclass(slots=True)
class Books:
    """The running totals of an account's entries."""

    credit_account_id: int
    sequence: int
    balance: int
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Tenant:
    """A channel, with what the Maker needs to know."""

    channel_id: uuid.UUID
    account_id: int
    site: str
    model: LanguageModel


@dataclass(slots=True)
class Day:
    """The rows of one day, written together."""

    sessions: list[tuple[Any, ...]] = field(default_factory=list)
    messages: list[tuple[Any, ...]] = field(default_factory=list)
    holds: list[tuple[Any, ...]] = field(default_factory=list)
    # By time, because the ledger is numbered in that order.
    charges: list[tuple[datetime, Tenant, uuid.UUID, int, str]] = field(default_factory=list)
    failures: list[tuple[Any, ...]] = field(default_factory=list)
    rated: list[tuple[uuid.UUID, datetime]] = field(default_factory=list)
    counts: dict[tuple[uuid.UUID, bool], int] = field(default_factory=dict)


def has_data_of_others() -> bool:
    """Return whether anybody but the first login has an account, or any message was answered."""
    others = Membership.objects.exclude(user__email=FIRST_EMAIL)
    return others.exists() or Message.objects.exists()


# --- Tenants ------------------------------------------------------------------------------------


@transaction.atomic
def make_tenants(size: Size, *, rng: random.Random, starts_at: datetime) -> list[Tenant]:
    """Create channels, and for about every ten an account that nobody can log in to."""
    models = list(LanguageModel.objects.filter(is_enabled=True)) or list(
        LanguageModel.objects.all()
    )
    own = max(1, round(size.channels * OWNER_CHANNELS_SHARE))
    owners = [_first_account()] * own
    tag = f"{_ids.getrandbits(32):08x}"
    for number in range(max(1, size.channels // 10)):
        owners += [_make_account(f"{tag}-{number + 1:03}")] * 10
    owners = (owners * (size.channels // len(owners) + 1))[: size.channels]
    rows = [_channel(account, index, rng.choice(models)) for index, account in enumerate(owners)]
    Channel.objects.bulk_create(rows, batch_size=500)
    PromptVersion.objects.bulk_create(
        [
            PromptVersion(channel=row, number=number, text=words.prompt(number, row.name))
            for row in rows
            for number in range(1, row.prompt_version + 1)
        ],
        batch_size=500,
    )
    AuditEntry.objects.bulk_create(
        [
            AuditEntry(
                account_id=row.account_id, channel=row, actor_name=ACTOR.name,
                action="channel.created", target=row.name,
            )
            for row in rows
        ],
        batch_size=500,
    )  # fmt: skip
    _backdate(rows, starts_at)
    return [Tenant(row.id, row.account_id, row.site_url, row.model) for row in rows]


def _first_account() -> Account:
    """Return the account of the first login. Creates both if `firstrun` has not yet."""
    user = User.objects.filter(email=FIRST_EMAIL).first() or User.objects.create_user(FIRST_EMAIL)
    owned = Membership.objects.filter(user=user, role=Membership.Role.OWNER).order_by("id").first()
    if owned is not None:
        return owned.account
    account = Account.objects.create(name=FIRST_EMAIL)
    Membership.objects.create(account=account, user=user, role=Membership.Role.OWNER)
    return account


def _make_account(name: str) -> Account:
    email = f"owner-{name}@{DEMO_DOMAIN}"
    user = User(email=email)
    user.set_unusable_password()
    user.save()
    account = Account.objects.create(name=f"{words.company(name)} ({name})")
    Membership.objects.create(account=account, user=user, role=Membership.Role.OWNER)
    return account


def _channel(account: Account, index: int, model: LanguageModel) -> Channel:
    version = 1 + index % 3
    name = words.shop(index)
    site = f"https://{name.lower().replace(' ', '-')}.example"
    return Channel(
        account=account, name=name, site_url=site, model=model, prompt_version=version,
        system_prompt=words.prompt(version, name), daily_quota=1_000_000,
    )  # fmt: skip


def _backdate(rows: Sequence[Channel], starts_at: datetime) -> None:
    Channel.objects.filter(id__in=[row.id for row in rows]).update(created_at=starts_at)


@transaction.atomic
def open_books(tenants: Sequence[Tenant], size: Size, *, starts_at: datetime) -> dict[int, Books]:
    """Grant every account enough for all its charges. Returns its books by account."""
    books = {
        account_id: _open(account_id, size, starts_at)
        for account_id in sorted({tenant.account_id for tenant in tenants})
    }
    _balance(books.values())
    return books


def _open(account_id: int, size: Size, starts_at: datetime) -> Books:
    credit_account, _ = CreditAccount.objects.select_for_update().get_or_create(
        account_id=account_id
    )
    # More than the most expensive model could charge for all messages of the set.
    amount = (size.messages + 1_000) * 1_000_000 * 2
    sequence = credit_account.entry_count + 1
    balance = credit_account.balance_microcredits + amount
    entry = LedgerEntry.objects.create(
        credit_account=credit_account, sequence=sequence, kind="grant", debit="issuance",
        credit="customer", amount_microcredits=amount, balance_after_microcredits=balance,
        reason="Demo data", actor=ACTOR.name, created_at=starts_at,
    )  # fmt: skip
    CreditGrant.objects.create(
        credit_account=credit_account, entry=entry, category="purchase",
        amount_microcredits=amount, remaining_microcredits=amount,
    )  # fmt: skip
    return Books(account_id, sequence, balance, credit_account.spent_microcredits)


def _balance(books: Iterable[Books]) -> None:
    """Set every account's balance to the total of its entries, in the caller's transaction."""
    for one in books:
        CreditAccount.objects.filter(account_id=one.credit_account_id).update(
            balance_microcredits=one.balance,
            entry_count=one.sequence,
            spent_microcredits=one.spent,
        )


# --- Days ---------------------------------------------------------------------------------------


class Maker:
    """Creates and writes one day after the other."""

    def __init__(
        self, tenants: Sequence[Tenant], books: dict[int, Books], rng: random.Random
    ) -> None:
        self._rng = rng
        self._tenants = tenants
        self._books = books
        self._next_session = (ChatSession.objects.aggregate(last=Max("id"))["last"] or 0) + 1
        own = [tenant.account_id == _first_account().id for tenant in tenants]
        self._weights = list(accumulate(_weights(own, rng)))

    def make(self, day: date, message_count: int, *, until: datetime) -> int:
        """Create and write about that many messages for a day. Returns how many."""
        rows = Day()
        while len(rows.messages) < message_count:
            self._talk(rows, day, until)
        self._write(rows, day)
        return len(rows.messages)

    def _talk(self, rows: Day, day: date, until: datetime) -> None:
        rng = self._rng
        tenant = self._tenants[bisect(self._weights, rng.random() * self._weights[-1])]
        is_test = rng.random() < TEST_SHARE
        latest = min(80_000, (until - _start(day)).total_seconds() * 0.9)
        moment = _start(day) + timedelta(seconds=rng.triangular(0, latest, min(50_000, latest)))
        if rng.random() < STATELESS_SHARE:
            self._answer(rows, tenant, moment, is_test, session=None, position=0)
            return
        turns = min(12, 1 + int(rng.expovariate(0.6)))
        session_pk, session_id = self._next_session, f"visitor-{rng.getrandbits(48):012x}"
        self._next_session += 1
        page = tenant.site + words.path(rng)
        began = last = moment
        for turn in range(turns):
            last = self._answer(
                rows, tenant, moment, is_test, session=(session_pk, page), position=2 * turn
            )
            moment = last + timedelta(seconds=rng.uniform(4, 90))
        if rng.random() < FAILED_SHARE * turns:
            self._fail(rows, tenant, last, is_test, session_id, page)
        rows.sessions.append(
            (session_pk, tenant.channel_id, is_test, session_id, began, last, 2 * turns, turns)
        )

    def _answer(
        self, rows: Day, tenant: Tenant, moment: datetime, is_test: bool,
        *, session: tuple[int, str] | None, position: int,
    ) -> datetime:  # fmt: skip
        rng = self._rng
        duration_ms = int(rng.lognormvariate(7.2, 0.6))
        answered = moment + timedelta(milliseconds=duration_ms)
        tokens_in, tokens_out = 40 + position * 90 + rng.randrange(60), rng.randrange(30, 320)
        model = tenant.model
        prices = (
            model.price_per_reply_microcredits,
            model.price_per_1k_input_tokens_microcredits,
            model.price_per_1k_output_tokens_microcredits,
        )
        cost = prices[0] - (-(prices[1] * tokens_in + prices[2] * tokens_out) // 1000)
        charge = 0 if is_test else cost
        reply_id, request_id = _uuid7_at(answered), f"req_{rng.getrandbits(96):024x}"
        shared = (tenant.channel_id, is_test)
        question, reply = words.talk(rng)
        if session is not None:
            rows.messages.append(
                (_uuid7_at(moment), session[0], *shared, position, "user",
                 question, moment, session[1], "", "", "", "", "", "", 0, 0, 0,
                 0, 0, 0, 0, 0)
            )  # fmt: skip
        rows.messages.append(
            (reply_id, session and session[0], *shared, position + 1 if session else 0,
             "assistant", reply if session else "", answered, "", "", request_id,
             model.model_id, model.model_id, "demo" if is_test else "openrouter", "stop",
             tokens_in, tokens_out, charge, *(prices if not is_test else (0, 0, 0)),
             duration_ms, 1)
        )  # fmt: skip
        rows.holds.append(
            (reply_id, tenant.account_id, *shared, moment.date(), charge, charge, "captured",
             request_id, moment, answered + timedelta(seconds=70), answered)
        )  # fmt: skip
        key = (tenant.channel_id, is_test)
        rows.counts[key] = rows.counts.get(key, 0) + 1
        if charge:
            rows.charges.append((answered, tenant, reply_id, charge, request_id))
        if session is not None and rng.random() < RATED_SHARE:
            rows.rated.append((reply_id, answered))
        return answered

    def _fail(
        self, rows: Day, tenant: Tenant, moment: datetime, is_test: bool, session_id: str, page: str
    ) -> None:
        rng = self._rng
        code, reason = rng.choice(words.FAILURES)
        rows.failures.append(
            (tenant.channel_id, is_test, session_id, f"req_{rng.getrandbits(96):024x}", code,
             reason, tenant.model.model_id, page, rng.randrange(60_000),
             moment + timedelta(seconds=1))
        )  # fmt: skip

    def _write(self, rows: Day, day: date) -> None:
        with transaction.atomic():
            bulk.copy(ChatSession, _SESSION_COLUMNS, rows.sessions)
            bulk.copy(Hold, _HOLD_COLUMNS, sorted(rows.holds, key=lambda row: row[9]))
            rows.messages.sort(key=lambda row: row[7])
            bulk.copy(Message, _MESSAGE_COLUMNS, rows.messages)
            bulk.copy(LedgerEntry, _ENTRY_COLUMNS, self._entries(rows))
            bulk.copy(FailedRequest, _FAILURE_COLUMNS, rows.failures)
            bulk.copy(Feedback, _FEEDBACK_COLUMNS, _feedback(rows, self._rng))
            counts = ((*key, day, count) for key, count in rows.counts.items())
            bulk.copy(DailyUsage, ("channel_id", "is_test", "day", "message_count"), counts)
            # In the transaction of its day, so that the books balance even if the command is
            # interrupted.
            _balance(self._books.values())

    def _entries(self, rows: Day) -> Iterator[tuple[Any, ...]]:
        for moment, tenant, hold_id, charge, request_id in sorted(
            rows.charges, key=lambda row: row[0]
        ):
            books = self._books[tenant.account_id]
            books.sequence += 1
            books.balance -= charge
            books.spent += charge
            yield (
                books.credit_account_id, books.sequence, "charge", "customer", "revenue", charge,
                books.balance, f"Reply by {tenant.model.model_id}", "", request_id, hold_id, moment,
            )  # fmt: skip


_SESSION_COLUMNS = (
    "id", "channel_id", "is_test", "session_id", "created_at", "last_message_at",
    "message_count", "lease_number",
)  # fmt: skip
_MESSAGE_COLUMNS = (
    "id", "session_id", "channel_id", "is_test", "position", "role", "content", "created_at",
    "page_url", "page_title", "request_id", "request_model", "response_model", "provider_name",
    "finish_reason", "input_tokens", "output_tokens", "charged_microcredits", "price_per_reply",
    "price_per_1k_input", "price_per_1k_output", "duration_ms", "prompt_version",
)  # fmt: skip
_HOLD_COLUMNS = (
    "id", "account_id", "channel_id", "is_test", "day", "amount_microcredits",
    "captured_microcredits", "state", "request_id", "created_at", "expires_at", "resolved_at",
)  # fmt: skip
_ENTRY_COLUMNS = (
    "credit_account_id", "sequence", "kind", "debit", "credit", "amount_microcredits",
    "balance_after_microcredits", "reason", "actor", "request_id", "hold_id", "created_at",
)  # fmt: skip
_FAILURE_COLUMNS = (
    "channel_id", "is_test", "session_id", "request_id", "error_code", "reason", "request_model",
    "page_url", "duration_ms", "created_at",
)  # fmt: skip
_FEEDBACK_COLUMNS = ("message_id", "rating", "note", "updated_at")


def _feedback(rows: Day, rng: random.Random) -> Iterator[tuple[Any, ...]]:
    for reply_id, moment in rows.rated:
        rating, note = rng.choice(words.RATINGS)
        yield reply_id, rating, note, moment


def _weights(is_own: Sequence[bool], rng: random.Random) -> list[float]:
    """Return how busy each channel is. A few are very busy. The first login's have their share."""
    busy = [rng.paretovariate(1.3) for _ in is_own]
    busy = [min(one, 40.0) for one in busy]
    others = sum(one for one, own in zip(busy, is_own, strict=True) if not own)
    mine = sum(one for one, own in zip(busy, is_own, strict=True) if own)
    factor = others * OWNER_MESSAGES_SHARE / (1 - OWNER_MESSAGES_SHARE) / mine if others else 1
    return [one * factor if own else one for one, own in zip(busy, is_own, strict=True)]


def _uuid7_at(moment: datetime) -> uuid.UUID:
    """Return an id as a row created at that moment would have."""
    value = int(moment.timestamp() * 1000) << 80 | _ids.getrandbits(80)
    value = value & ~(0xF << 76) | (0x7 << 76)
    return uuid.UUID(int=value & ~(0x3 << 62) | (0x2 << 62))


def _start(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)


def finish() -> None:
    """Move the sequences past the ids that rows brought along, and refresh the statistics."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [ChatSession]):
            cursor.execute(statement)
        cursor.execute("ANALYZE")

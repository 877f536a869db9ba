"""Look-up of a caller by API key: one query reads everything that a request needs to know."""

from __future__ import annotations

import json
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from django.db import connection
from django.utils import timezone

from channels import calendars, key_terms
from channels.calendars import Calendar
from channels.key_terms import Network
from channels.providers.base import Usage
from common import crypto, db
from common.db import Returned, Step


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """A model's sizes in tokens and prices in micro-credits, as they were at look-up."""

    id: int
    model_id: str
    context_window_tokens: int
    max_output_tokens: int
    per_reply: int
    per_1k_input: int
    per_1k_output: int
    # None: cached input costs as much as other input.
    per_1k_cached_input: int | None
    hides_thinking: bool
    # How long its answer may take to begin. 0: as long as with other models.
    first_token_seconds: int
    # How many tokens a hold covers for one image. 0: the model takes no images.
    image_tokens: int

    def price(self, usage: Usage) -> int:
        """Return the price of a reply in micro-credits. Fractions are rounded up once, at the end.

        Cached tokens are part of the input.
        """
        cached, cached_price = 0, self.per_1k_cached_input
        if cached_price is not None:
            cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
        token_price_in_thousandths = (
            self.per_1k_input * (usage.input_tokens - cached)
            + (cached_price or 0) * cached
            + self.per_1k_output * usage.output_tokens
        )
        return self.per_reply - (-token_price_in_thousandths // 1000)

    def affordable_output_tokens(self, available_microcredits: int, *, input_tokens: int) -> int:
        """Return how many output tokens the credits can pay for, after the flat price and input.

        Only for a model with a price per output token.
        """
        left = available_microcredits - self.price(Usage(input_tokens, 0))
        return max(0, left * 1000 // self.per_1k_output)

    def room_for_answer(self, longest: int | None = None) -> int:
        """Return the tokens kept for the answer: at most a quarter of the window, and `longest`."""
        window = self.context_window_tokens
        return min(self.max_output_tokens, window // 4, longest or window)


@dataclass(frozen=True, slots=True)
class Caller:
    """A valid key's channel, account and model, with the tighter of channel and plan limits."""

    # Changes when anything here changes (see `recall`). None if the database has no such mark.
    mark: str | None
    # None for a channel that is used without one of its keys.
    key_id: uuid.UUID | None
    key_masked: str
    key_name: str
    # None: any address. Empty: none, as if the stored text is damaged.
    allowed_addresses: tuple[Network, ...] | None
    # None: every model.
    allowed_models: frozenset[str] | None
    # As the database writes them. They are parsed only when needed.
    key_created: str
    key_expires: str | None
    is_test: bool
    channel_id: uuid.UUID
    channel_name: str
    account_id: int
    is_channel_enabled: bool
    is_account_enabled: bool
    calendar: Calendar
    # Whether the installation has no other account, so that no room must be left for others.
    is_only_account: bool
    system_prompt: str
    prompt_version: int
    requests_per_minute: int
    daily_quota: int
    fallback_replies: dict[str, str]
    has_fixed_answers: bool
    # The version of providers and routes, for the cache in channels/routes.py. None while any route
    # is failing, because then each request must read them.
    catalogue_mark: str | None
    # How the channel's prompt version wants answers: options of the protocol, and the longest one.
    answer_options: Mapping[str, Any]
    max_answer_tokens: int | None
    # Answers a visitor's message if every route of the model failed.
    fallback: ModelTerms | None
    model: ModelTerms

    @property
    def key_created_at(self) -> datetime:
        return db.time_value(self.key_created)

    @property
    def key_expires_at(self) -> datetime | None:
        return db.time_value(self.key_expires) if self.key_expires else None

    @property
    def flat_price(self) -> int | None:
        """The most that a message can cost, in micro-credits. None if that depends on its length.

        Covers the fallback model too, whichever of the two costs more.
        """
        models = (self.model, self.fallback) if self.fallback else (self.model,)
        if any(model.per_1k_input or model.per_1k_output for model in models):
            return None
        return max(model.per_reply for model in models)

    @property
    def is_enabled(self) -> bool:
        return self.is_channel_enabled and self.is_account_enabled

    def may_use(self, model_id: str) -> bool:
        """Return whether the key's owner allows this model (permissions.py)."""
        return self.allowed_models is None or model_id in self.allowed_models


def _tighter(limit: str) -> str:
    """Return the SQL of a limit: the plan's if it has one below the channel's, or the channel's."""
    return f"CASE WHEN p.{limit} < c.{limit} THEN p.{limit} ELSE c.{limit} END"


# The columns of ModelTerms, in its order.
_OF_MODEL = (
    "id",
    "model_id",
    "context_window_tokens",
    "max_output_tokens",
    "price_per_reply_microcredits",
    "price_per_1k_input_tokens_microcredits",
    "price_per_1k_output_tokens_microcredits",
    "price_per_1k_cached_input_tokens_microcredits",
    "hides_thinking",
    "first_token_seconds",
    "image_tokens",
)
# The columns that describe a caller, and their SQL. The names are those of Caller.
_OF_CHANNEL = {
    "channel_id": "c.id",
    "channel_name": "c.name",
    "account_id": "c.account_id",
    "is_channel_enabled": "c.is_enabled",
    "is_account_enabled": "a.is_enabled",
    "time_zone": "a.time_zone",
    "has_local_quota": "a.has_local_quota",
    "turns": "a.turns",
    "is_only_account": ("NOT EXISTS (SELECT 1 FROM channels_account other WHERE other.id <> a.id)"),
    "system_prompt": "c.system_prompt",
    "prompt_version": "c.prompt_version",
    "requests_per_minute": _tighter("requests_per_minute"),
    "daily_quota": _tighter("daily_quota"),
    "fallback_replies": "c.fallback_replies",
    "has_fixed_answers": (
        "EXISTS (SELECT 1 FROM channels_fixedanswer f WHERE f.channel_id = c.id)"
    ),
    "catalogue_mark": (
        "(SELECT mark FROM channels_catalogueversion"
        " WHERE NOT EXISTS (SELECT 1 FROM channels_routehealth))"
    ),
    "temperature": "c.temperature",
    "max_answer_tokens": "c.max_answer_tokens",
    "stop_words": "c.stop_words",
    "fallback_pk": "c.fallback_model_id",
    **{f"model_{column}": f"m.{column}" for column in _OF_MODEL},
}
_OF_KEY = {
    "mark": "NULL",
    "key_id": "k.id",
    "key_prefix": "k.key_prefix",
    "key_last_four": "k.key_last_four",
    "key_created": "CAST(k.created_at AS text)",
    "key_expires": "CAST(k.expires_at AS text)",
    "mode": "k.mode",
    "key_name": "k.name",
    "allowed_addresses": "k.allowed_addresses",
    "allowed_models": "k.allowed_models",
}
# The columns of the caller that later steps may read.
CALLER = Returned(
    "caller",
    (
        "mark",
        "mode",
        "channel_id",
        "is_channel_enabled",
        "is_account_enabled",
        "requests_per_minute",
        "allowed_addresses",
    ),
)
# For a channel without a key: its own values stand in for the key's.
_OF_NO_KEY = {
    "mark": "NULL",
    "key_id": "NULL",
    "key_prefix": "''",
    "key_last_four": "''",
    "key_created": "CAST(c.created_at AS text)",
    "key_expires": "NULL",
    "mode": "%(mode)s",
    "key_name": "''",
    "allowed_addresses": "''",
    "allowed_models": "''",
}
_CHANNEL_JOINS = """
  JOIN channels_account a ON a.id = c.account_id
  JOIN channels_languagemodel m ON m.id = c.model_id
  LEFT JOIN channels_plan p ON p.id = a.plan_id
"""

# Read by its own statement, because few channels have a fallback model: the columns of a second
# model would make the statement too long for psycopg to keep it prepared.
_FIND_FALLBACK = f"""
SELECT {", ".join(_OF_MODEL)} FROM channels_languagemodel
 WHERE id = %(id)s AND is_enabled
"""  # noqa: S608  # built from constants only
_FALLBACK_MARK = "(SELECT xmin FROM channels_languagemodel WHERE id = c.fallback_model_id)"
# The version of each row that describes the caller: on PostgreSQL, the transaction that wrote it.
# Includes the values that can change without a change of these rows.
# https://www.postgresql.org/docs/current/ddl-system-columns.html
_ROWS_MARK = f"concat_ws(' ', k.xmin, c.xmin, a.xmin, m.xmin, p.xmin, {_FALLBACK_MARK})"
_MARK = f"""concat_ws(' ', {_ROWS_MARK},
                {_OF_CHANNEL["has_fixed_answers"]}, {_OF_CHANNEL["is_only_account"]},
                {_OF_CHANNEL["catalogue_mark"]})"""


def _found_by_key(columns: Mapping[str, str], *, by_many: bool) -> Step:
    """Return the step that finds an active key's caller, by one digest or by several.

    Handwritten SQL, because every request begins with it, and the same query through the ORM costs
    three times the CPU. The unique index on key_digest finds the row, and the joins use primary
    keys.
    """
    # Short names for the others, because psycopg prepares no statement above 4 KiB.
    names = [
        name if name in CALLER.columns else f"c{number}" for number, name in enumerate(columns)
    ]
    is_the_key = db.among("k.key_digest", "digests") if by_many else "k.key_digest = %(digest)s"
    return Step(
        CALLER.name,
        names,
        f"""SELECT {", ".join(columns.values())}
  FROM channels_apikey k
  JOIN channels_channel c ON c.id = k.channel_id
  {_CHANNEL_JOINS}
 WHERE {is_the_key}
   AND k.revoked_at IS NULL
   AND (k.expires_at IS NULL OR k.expires_at > %(now)s)
""",  # noqa: S608  # built from constants only
    )


@cache
def known_caller_step(*, by_many: bool = False) -> Step:
    """Return the step that reads only the mark. It finds no row if the key is no longer active."""
    return _found_by_key({"mark": _MARK}, by_many=by_many)


@cache
def caller_step(*, by_many: bool = False) -> Step:
    """Return the step that reads everything about an active key's caller."""
    columns = _OF_KEY | _OF_CHANNEL
    if db.is_postgresql():
        columns = columns | {"mark": _ROWS_MARK}
    return _found_by_key(columns, by_many=by_many)


_FIND_CHANNEL_CALLER = f"""
SELECT {", ".join((_OF_NO_KEY | _OF_CHANNEL).values())}
  FROM channels_channel c
  {_CHANNEL_JOINS}
 WHERE c.id = %(channel)s
"""  # noqa: S608  # built from constants only


def params_of(key: str) -> dict[str, Any]:
    """Return the parameters of both steps for this key, for a look-up now.

    They include `digests` while a pepper is being rotated. Then the steps must be `by_many`.
    """
    digests = crypto.digests(key)  # as API_KEYS in sealing.py stores them, without a prefix
    params = {"digest": digests[0], "now": db.param(timezone.now())}
    return params if len(digests) == 1 else params | {"digests": db.list_param(digests)}


def find_caller(key: str) -> Caller | None:
    """Return the caller with this key, or None if no active key matches."""
    params = params_of(key)
    row = db.fetch_row(caller_step(by_many="digests" in params).sql, params)
    return read_caller(row) if row else None


def find_channel_caller(*, channel_id: uuid.UUID, is_test: bool) -> Caller | None:
    """Return the caller that this channel would be with an active key of that mode.

    For people who may use the channel without one of its keys, as in the dashboard's playground.
    `key_masked` is only an ellipsis.
    """
    params = {"mode": "test" if is_test else "live", "channel": channel_id.hex}
    row = db.fetch_row(_FIND_CHANNEL_CALLER, params)
    return read_caller(row) if row else None


# Callers by the digest of their key. Each holds a prompt of up to 16,000 characters.
_kept: OrderedDict[str, Caller] = OrderedDict()
_KEPT_AT_MOST = 1_000


def keep(digest: str, caller: Caller) -> None:
    """Cache a key's caller, for as long as the mark stays."""
    # Within a transaction, rows can change again under the same mark.
    if caller.mark and caller.is_enabled and not connection.in_atomic_block:
        _kept[digest] = caller
        while len(_kept) > _KEPT_AT_MOST:
            _kept.popitem(last=False)


def recall(digest: str) -> Caller | None:
    """Return the cached caller. Valid only if `known_caller_step` finds the same mark.

    Saves a fifth of what the look-up costs PostgreSQL. Only enabled callers are cached.
    """
    return None if connection.in_atomic_block else _kept.get(digest)


def _whole_mark(rows_mark: str, *facts: Any) -> str:
    """Return what _MARK would have, from what the same statement returned beside the rows' mark."""
    told = {True: "t", False: "f"}
    shown = [told.get(fact, fact) for fact in facts if fact is not None]
    return " ".join([rows_mark, *shown])


def read_caller(row: Sequence[Any]) -> Caller:
    """Return the caller in a row of `caller_step`. Reads the fallback model, if there is one."""
    mark, key_id, prefix, last_four, created, expires, mode, *rest = row
    key_name, addresses, models, channel_id, *rest = rest
    name, account_id, is_channel_enabled, is_account_enabled, *rest = rest
    time_zone, has_local_quota, turns, is_only_account, *rest = rest
    prompt, version, *rest = rest
    requests_per_minute, daily_quota, fallback_replies, has_fixed_answers, catalogue, *rest = rest
    temperature, max_answer_tokens, stop_words, fallback_pk, *model = rest
    allowed_models = frozenset(models.split("\n")) if models else None
    fallback = _find_fallback(fallback_pk) if fallback_pk not in (None, model[0]) else None
    if fallback and allowed_models is not None and fallback.model_id not in allowed_models:
        fallback = None
    return Caller(
        mark=mark and _whole_mark(mark, has_fixed_answers, is_only_account, catalogue),
        key_id=_read_uuid(key_id) if key_id else None,
        key_masked=f"{prefix}…{last_four}",
        key_name=key_name,
        allowed_addresses=key_terms.read_ranges(addresses) if addresses else None,
        allowed_models=allowed_models,
        key_created=created,
        key_expires=expires,
        is_test=mode == "test",
        channel_id=_read_uuid(channel_id),
        channel_name=name,
        account_id=account_id,
        is_channel_enabled=bool(is_channel_enabled),
        is_account_enabled=bool(is_account_enabled),
        calendar=calendars.read(time_zone, bool(has_local_quota), turns),
        is_only_account=bool(is_only_account),
        system_prompt=prompt,
        prompt_version=version,
        requests_per_minute=requests_per_minute,
        daily_quota=daily_quota,
        fallback_replies=_parse_replies(fallback_replies),
        has_fixed_answers=bool(has_fixed_answers),
        catalogue_mark=catalogue,
        answer_options=_read_options(temperature, stop_words),
        max_answer_tokens=max_answer_tokens,
        fallback=fallback,
        model=ModelTerms(*model),
    )


def _read_uuid(stored: Any) -> uuid.UUID:
    """Return a stored UUID. SQLite keeps it as text."""
    return stored if isinstance(stored, uuid.UUID) else uuid.UUID(stored)


def _find_fallback(model_pk: int) -> ModelTerms | None:
    """Return the terms of a fallback model, or None if it is switched off."""
    row = db.fetch_row(_FIND_FALLBACK, {"id": model_pk})
    return ModelTerms(*row) if row else None


def _read_options(temperature: Any, stop_words: Any) -> dict[str, Any]:
    """Return the options of the protocol, by its names, that are set."""
    options: dict[str, Any] = {}
    if temperature is not None:
        options["temperature"] = float(temperature)
    if words := _read_json(stop_words):
        options["stop"] = words
    return options


def _read_json(stored: Any) -> Any:
    """Return a stored JSON value. The raw cursor returns it as text."""
    return json.loads(stored) if isinstance(stored, str | bytes) else stored


def _parse_replies(stored: Any) -> dict[str, str]:
    """Return the non-empty texts of a stored mapping."""
    parsed = _read_json(stored)
    if not isinstance(parsed, dict):
        return {}
    return {code: text for code, text in parsed.items() if isinstance(text, str) and text}

"""From an API key to everything a request needs to know about its caller, in one query."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from common import crypto, db
from common.money import price_of


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """A model's sizes in tokens and prices in micro-credits, as they stood at look-up."""

    id: int
    model_id: str
    context_window_tokens: int
    max_output_tokens: int
    per_reply: int
    per_1k_input: int
    per_1k_output: int

    def price(self, *, input_tokens: int, output_tokens: int) -> int:
        """Return the price of a reply in micro-credits."""
        return price_of(
            per_reply=self.per_reply,
            per_1k_input=self.per_1k_input,
            per_1k_output=self.per_1k_output,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )

    def affordable_output_tokens(self, available_microcredits: int, *, input_tokens: int) -> int:
        """Return how many output tokens the credits pay for at most, after flat price and input.

        Only for a model with a price per output token.
        """
        left = available_microcredits - self.price(input_tokens=input_tokens, output_tokens=0)
        return max(0, left * 1000 // self.per_1k_output)


@dataclass(frozen=True, slots=True)
class Caller:
    """A valid key: its channel, the tighter of its own and its plan's limits, account and model."""

    key_masked: str
    # As the database writes them: only who asks about the key has them read.
    key_created: str
    key_expires: str | None
    is_test: bool
    channel_id: uuid.UUID
    channel_name: str
    account_id: int
    is_channel_enabled: bool
    is_account_enabled: bool
    system_prompt: str
    prompt_version: int
    requests_per_minute: int
    daily_quota: int
    fallback_replies: dict[str, str]
    has_fixed_answers: bool
    # Whether what is kept of providers and routes still holds (channels/routes.py); None while any
    # route is failing, as then they have to be asked for.
    catalogue_mark: str | None
    model: ModelTerms

    @property
    def key_created_at(self) -> datetime:
        return db.time_value(self.key_created)

    @property
    def key_expires_at(self) -> datetime | None:
        return db.time_value(self.key_expires) if self.key_expires else None

    @property
    def is_enabled(self) -> bool:
        return self.is_channel_enabled and self.is_account_enabled


# By hand, as every request begins with it: the same query through the ORM costs three times
# the CPU. The unique index on key_digest finds the row, the joins are by primary key.
_CHANNEL_COLUMNS = """
       c.id, c.name, c.account_id, c.is_enabled, a.is_enabled, c.system_prompt,
       c.prompt_version,
       c.requests_per_minute, c.daily_quota, p.requests_per_minute, p.daily_quota,
       c.fallback_replies,
       EXISTS (SELECT 1 FROM channels_fixedanswer f WHERE f.channel_id = c.id),
       (SELECT mark FROM channels_catalogueversion
         WHERE NOT EXISTS (SELECT 1 FROM channels_routehealth)),
       m.id, m.model_id, m.context_window_tokens, m.max_output_tokens,
       m.price_per_reply_microcredits, m.price_per_1k_input_tokens_microcredits,
       m.price_per_1k_output_tokens_microcredits
"""
_CHANNEL_JOINS = """
  JOIN channels_account a ON a.id = c.account_id
  JOIN channels_languagemodel m ON m.id = c.model_id
  LEFT JOIN channels_plan p ON p.id = a.plan_id
"""

_FIND_CALLER = f"""
SELECT k.key_prefix, k.key_last_four, CAST(k.created_at AS text), CAST(k.expires_at AS text),
       k.mode, {_CHANNEL_COLUMNS}
  FROM channels_apikey k
  JOIN channels_channel c ON c.id = k.channel_id
  {_CHANNEL_JOINS}
 WHERE k.key_digest = %s
   AND (k.revoked_at IS NULL OR k.revoked_at > %s)
   AND (k.expires_at IS NULL OR k.expires_at > %s)
"""  # noqa: S608  # built from constants only

# A channel stands for itself: what a key would say is said by the channel.
_FIND_CHANNEL_CALLER = f"""
SELECT '', '', CAST(c.created_at AS text), NULL, %s, {_CHANNEL_COLUMNS}
  FROM channels_channel c
  {_CHANNEL_JOINS}
 WHERE c.id = %s
"""  # noqa: S608  # built from constants only


def find_caller(key: str) -> Caller | None:
    """Return the caller who holds this key now, or None where there is no such living key."""
    now = db.time_param(timezone.now())
    row = db.fetch_row(_FIND_CALLER, [crypto.digest(key), now, now])
    return _read_caller(row) if row else None


def find_channel_caller(*, channel_id: uuid.UUID, is_test: bool) -> Caller | None:
    """Return the channel as the caller it would be with a living key of that mode.

    For people who may use the channel without holding a key of it, as in the dashboard's
    playground; `key_masked` is empty but for an ellipsis.
    """
    row = db.fetch_row(
        _FIND_CHANNEL_CALLER,
        ["test" if is_test else "live", channel_id.hex],
    )
    return _read_caller(row) if row else None


def _read_caller(row: tuple[Any, ...]) -> Caller:
    prefix, last_four, created, expires, mode, channel_id, *rest = row
    name, account_id, is_channel_enabled, is_account_enabled, prompt, version, *limits = rest
    per_minute, daily_quota, plan_per_minute, plan_daily_quota, *rest = limits
    fallback_replies, has_fixed_answers, catalogue_mark, *model = rest
    return Caller(
        key_masked=f"{prefix}…{last_four}",
        key_created=created,
        key_expires=expires,
        is_test=mode == "test",
        channel_id=uuid.UUID(str(channel_id)),
        channel_name=name,
        account_id=account_id,
        is_channel_enabled=bool(is_channel_enabled),
        is_account_enabled=bool(is_account_enabled),
        system_prompt=prompt,
        prompt_version=version,
        requests_per_minute=min(per_minute, plan_per_minute or per_minute),
        daily_quota=min(daily_quota, plan_daily_quota or daily_quota),
        fallback_replies=_parse_replies(fallback_replies),
        has_fixed_answers=bool(has_fixed_answers),
        catalogue_mark=catalogue_mark,
        model=ModelTerms(*model),
    )


def _parse_replies(stored: Any) -> dict[str, str]:
    """The raw cursor gives JSON as text; whatever is no mapping of texts is left out."""
    parsed = json.loads(stored) if isinstance(stored, str | bytes) else stored
    if not isinstance(parsed, dict):
        return {}
    return {code: text for code, text in parsed.items() if isinstance(text, str) and text}

"""Stores messages in the statement that charges for them (billing.settlement.Storing).

Written in SQL, because the ORM takes half a millisecond of CPU for the two rows of a turn. Every
step depends on the settlement's step RESOLVED: if it has no row, nothing is stored.
"""

from __future__ import annotations

from collections.abc import Mapping

from billing.contract import RESOLVED
from billing.settlement import Settling
from common.db import Step

# Returns no row if the session was erased while the provider answered, or if the turn lost its
# lease. Then only the books are kept, outside the session, because another turn may have its place.
# CASE keeps the planner from reading the partial index of all open sessions instead of the one row.
_ENDED = Step(
    "ended",
    ("id",),
    f"""
UPDATE conversations_chatsession
   SET lease_expires_at = NULL, message_count = message_count + 2, last_message_at = %(now)s
 WHERE id = %(session)s
   AND CASE WHEN closed_at IS NULL THEN lease_number = %(lease_number)s ELSE FALSE END
   AND EXISTS (SELECT 1 FROM {RESOLVED})
RETURNING id
""",  # noqa: S608  # built from constants only
)


_NOTHING_TOLD = {
    "request_id": "''",
    "request_model": "''",
    "response_model": "''",
    "provider_name": "''",
    "finish_reason": "''",
    "input_tokens": "0",
    "output_tokens": "0",
    "cached_input_tokens": "CAST(NULL AS bigint)",
    "reasoning_tokens": "CAST(NULL AS bigint)",
    "is_estimated": "FALSE",
    "charged_microcredits": "0",
    "price_per_reply": "0",
    "price_per_1k_input": "0",
    "price_per_1k_output": "0",
    "price_per_1k_cached_input": "CAST(NULL AS bigint)",
    "duration_ms": "0",
    "prompt_version": "0",
    "fixed_answer_id": "CAST(NULL AS bigint)",
    # A null of the column's type on both databases.
    "api_key_id": "NULLIF(%(channel)s, %(channel)s)",
}
_USER = _NOTHING_TOLD | {
    "id": "%(user_message)s",
    "session_id": "ended.id",
    "channel_id": "%(channel)s",
    "is_test": "%(is_test)s",
    "position": "%(position)s",
    "role": "'user'",
    "content": "%(user_text)s",
    "page_url": "%(page_url)s",
    "page_title": "%(page_title)s",
    "created_at": "%(admitted_at)s",
    "erased_at": "NULL",
}
# What a reply cost and why. Stored even if its text is not. Its id is the id of its hold.
_REPLY = {
    "id": "%(hold)s",
    "channel_id": "%(channel)s",
    "is_test": "%(is_test)s",
    "role": "'assistant'",
    "page_url": "''",
    "page_title": "''",
    "created_at": "%(now)s",
    "request_id": "%(request_id)s",
    "request_model": "%(request_model)s",
    "response_model": "%(response_model)s",
    "provider_name": "%(provider_name)s",
    "finish_reason": "%(finish_reason)s",
    "input_tokens": "%(input_tokens)s",
    "output_tokens": "%(output_tokens)s",
    "cached_input_tokens": "CAST(%(cached_input_tokens)s AS bigint)",
    "reasoning_tokens": "CAST(%(reasoning_tokens)s AS bigint)",
    "is_estimated": "%(is_estimated)s",
    "charged_microcredits": "%(charge)s",
    "price_per_reply": "%(price_per_reply)s",
    "price_per_1k_input": "%(price_per_1k_input)s",
    "price_per_1k_output": "%(price_per_1k_output)s",
    "price_per_1k_cached_input": "CAST(%(price_per_1k_cached_input)s AS bigint)",
    "duration_ms": "%(duration_ms)s",
    "prompt_version": "%(prompt_version)s",
    "api_key_id": "%(api_key)s",
}
_SESSION_REPLY = _REPLY | {
    "session_id": "ended.id",
    "position": "%(position)s + 1",
    "content": "CASE WHEN ended.id IS NULL THEN '' ELSE %(reply_text)s END",
    "fixed_answer_id": "CAST(%(fixed_answer)s AS bigint)",
    "erased_at": "CASE WHEN ended.id IS NULL THEN %(now)s END",
}
_STATELESS_REPLY = _REPLY | {
    "session_id": "NULL",
    "fixed_answer_id": "NULL",
    "position": "0",
    "content": "''",
    "erased_at": "NULL",
}


def _inserted(*rows: tuple[str, Mapping[str, str]]) -> Step:
    """Return the step that inserts messages, each read from a source.

    One statement opens the table's indexes only once.
    """
    columns = tuple(rows[0][1])
    selects = " UNION ALL ".join(
        f"SELECT {', '.join(message[column] for column in columns)} FROM {source}"  # noqa: S608
        for source, message in rows
    )
    insert = f"INSERT INTO conversations_message ({', '.join(columns)})"
    return Step("stored", ("id",), f"{insert} {selects} RETURNING id")


# For a turn: gives the session's lease back and stores two messages.
STORE_TURN = Settling(
    _ENDED,
    _inserted(("ended", _USER), (f"{RESOLVED} LEFT JOIN ended ON TRUE", _SESSION_REPLY)),
)
# For a completion of /v1: stores only the books.
STORE_REPLY = Settling(_inserted((str(RESOLVED), _STATELESS_REPLY)))
_DRAFT_COLUMNS = (
    "id",
    "channel_id",
    "is_test",
    "created_at",
    "request_id",
    "request_model",
    "provider_name",
    "input_tokens",
    "output_tokens",
    "charged_microcredits",
)
# For a reply to a draft: stores its books apart from those of visitors.
STORE_DRAFT = Settling(
    Step(
        "stored",
        ("id",),
        f"""
INSERT INTO conversations_draftreply ({", ".join(_DRAFT_COLUMNS)})
SELECT {", ".join(_REPLY[column] for column in _DRAFT_COLUMNS)} FROM {RESOLVED} RETURNING id
""",  # noqa: S608  # built from constants only
    )
)

"""Rows by the million, created by PostgreSQL itself: none passes through Python.

They look like what the gateway writes: in time order, with rows of different channels mixed, ids
that begin with their time, a hold and a ledger entry for each reply, and one failure in a hundred.
For many rows, indexes are dropped first and rebuilt afterwards. Foreign keys are right by
construction, and not checked row by row (docs/data/by-hand.csv says what that saves).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

QUESTION = "What does the parcel to Norway cost, please? " * 22
REPLY = "Certainly: the parcel leaves our house within two working days and is then yours. " * 17
TURNS_OF_A_SESSION = 10
SESSIONS_BESIDE = 10
# From this many messages on, rebuilding indexes is faster than adding to them row by row.
MESSAGES_WORTH_A_REBUILD = 200_000
HISTORY = 61 * 8  # characters of a channel's minute (billing/throttling.py)
_FILLED = ["conversations_message", "billing_hold", "billing_ledgerentry"]
Connection = psycopg.Connection[tuple[Any, ...]]

_CHANNELS = """
CREATE TEMP TABLE told AS SELECT %(first)s + n AS n FROM generate_series(1, %(count)s) n;
INSERT INTO channels_account (name, is_enabled, created_at, requires_second_factor)
    SELECT 'Filler ' || n, true, now(), false FROM told;
INSERT INTO billing_creditaccount (account_id, balance_microcredits, held_microcredits, entry_count,
        spent_microcredits, allocated_microcredits, low_balance_microcredits, warned)
    SELECT id, 1000000000000, 0, 0, 0, 0, 0, 0 FROM channels_account
    WHERE name LIKE 'Filler %%'
    ON CONFLICT DO NOTHING;
INSERT INTO channels_channel (id, name, site_url, is_enabled, system_prompt, requests_per_minute,
        daily_quota, fallback_replies, created_at, account_id, model_id, prompt_version)
    SELECT gen_random_uuid(), account.name, '', true, one.system_prompt, 60, 1000,
        one.fallback_replies, now(), account.id, one.model_id, 1
    FROM channels_account account JOIN told ON account.name = 'Filler ' || told.n,
        (SELECT * FROM channels_channel ORDER BY created_at LIMIT 1) one;
INSERT INTO channels_apikey (id, mode, key_prefix, key_last_four, key_digest, key_ciphertext,
        encryption_key_id, created_at, channel_id)
    SELECT gen_random_uuid(), one.mode, one.key_prefix, 'xxxx',
        md5(random()::text) || md5(random()::text), one.key_ciphertext, one.encryption_key_id,
        now(), channel.id
    FROM channels_channel channel JOIN told ON channel.name = 'Filler ' || told.n,
        (SELECT * FROM channels_apikey ORDER BY created_at LIMIT 1) one;
INSERT INTO billing_ratewindow (channel_id, bucket, second, total, history)
    SELECT channel.id, 'chat', extract(epoch FROM now())::bigint - 86400, 1,
        repeat('0', %(history)s)
    FROM channels_channel channel JOIN told ON channel.name = 'Filler ' || told.n;
DROP TABLE told;
"""

# One row a turn, in a table of this session. The other statements read it in time order. `beside`
# sessions take turns; then come the next ones.
_SESSIONS = """
CREATE TEMP TABLE talker AS
    SELECT row_number() OVER (ORDER BY id) - 1 AS number, id AS channel_id, account_id
    FROM channels_channel WHERE name LIKE %(whose)s;
CREATE TEMP TABLE talk AS
    SELECT nextval(pg_get_serial_sequence('conversations_chatsession', 'id')) AS session_pk,
        n, channel_id, account_id
    FROM generate_series(0, %(sessions)s - 1) n
    JOIN talker ON talker.number = n %% (SELECT count(*) FROM talker);
CREATE TEMP TABLE turn AS
    SELECT g, session_pk, n, channel_id, account_id, 2 * (g %% block / beside) AS position, moment,
        id7(moment, 2 * g) AS asked_id, id7(moment, 2 * g + 1) AS reply_id
    FROM (SELECT g, %(beside)s AS beside, %(beside)s * %(turns)s AS block,
            now() - interval '30 days' * (1 - g / (%(sessions)s * %(turns)s)::float) AS moment
            FROM generate_series(0, %(sessions)s * %(turns)s - 1) g) every
    JOIN talk ON talk.n = g / block * beside + g %% beside ORDER BY g;
INSERT INTO conversations_chatsession (id, channel_id, is_test, session_id, created_at,
        last_message_at, message_count, lease_number)
    SELECT session_pk, channel_id, false, %(name)s || n, min(moment),
        CASE WHEN %(alive)s THEN now() ELSE max(moment) END, 2 * %(turns)s, %(turns)s
    FROM turn GROUP BY session_pk, channel_id, n;
"""

_ID7 = """
CREATE FUNCTION pg_temp.id7(moment timestamptz, number bigint) RETURNS uuid LANGUAGE sql AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7'
        || left(tail, 3) || '8' || right(tail, 15))::uuid
    FROM (SELECT md5(number || 'x' || random()) AS tail) random_part $$;
"""

_ROWS = """
INSERT INTO conversations_message (id, session_id, channel_id, is_test, position, role, content,
        created_at, page_url, page_title, request_id, request_model, response_model, provider_name,
        finish_reason, input_tokens, output_tokens, is_estimated, charged_microcredits,
        price_per_reply, price_per_1k_input, price_per_1k_output, duration_ms, prompt_version)
    SELECT CASE WHEN s = 0 THEN asked_id ELSE reply_id END, session_pk, channel_id, false,
        position + s, CASE WHEN s = 0 THEN 'user' ELSE 'assistant' END,
        CASE WHEN s = 0 THEN %(question)s ELSE %(reply)s END, moment,
        CASE WHEN s = 0 THEN 'https://filler.example/page-' || g %% 97 ELSE '' END, '',
        CASE WHEN s = 0 THEN '' ELSE 'req_' || reply_id END, 'bench-model', 'bench-model', 'bench',
        'stop', 900 * s, 350 * s, false, 1000000 * s, 1000000 * s, 0, 0,
        s * (400 + 20000 * power(random(), 4))::int, s
    FROM turn, generate_series(0, 1) s ORDER BY g, s;
INSERT INTO billing_hold (id, account_id, channel_id, is_test, day, amount_microcredits,
        captured_microcredits, state, request_id, created_at, expires_at, resolved_at)
    SELECT reply_id, account_id, channel_id, false, (moment AT TIME ZONE 'UTC')::date, 1000000,
        1000000, 'captured', 'req_' || reply_id, moment, moment + interval '70 s', moment
    FROM turn ORDER BY g;
INSERT INTO billing_ledgerentry (credit_account_id, sequence, kind, debit, credit,
        amount_microcredits, balance_after_microcredits, reason, actor, request_id, hold_id,
        created_at)
    SELECT turn.account_id, books.entry_count + row_number() OVER (PARTITION BY turn.account_id
            ORDER BY g), 'charge', 'customer', 'revenue', 1000000, 1000000000, 'Reply', '',
        'req_' || reply_id, reply_id, moment
    FROM turn JOIN billing_creditaccount books ON books.account_id = turn.account_id ORDER BY g;
INSERT INTO conversations_failedrequest (channel_id, is_test, session_id, request_id, error_code,
        reason, request_model, page_url, duration_ms, created_at)
    SELECT channel_id, false, %(name)s || n, 'req_failed_' || reply_id,
        'provider_error', 'timeout', 'bench-model', 'https://filler.example/page-' || g %% 97,
        900, moment
    FROM turn WHERE g %% 100 = 99 ORDER BY g;
INSERT INTO billing_dailyusage (channel_id, is_test, day, message_count)
    SELECT channel_id, false, (moment AT TIME ZONE 'UTC')::date, count(*) FROM turn GROUP BY 1, 3
    ON CONFLICT (channel_id, is_test, day) DO UPDATE
        SET message_count = billing_dailyusage.message_count + excluded.message_count;
UPDATE billing_creditaccount books SET entry_count = entry_count + written
    FROM (SELECT account_id, count(*) AS written FROM turn GROUP BY 1) one
    WHERE one.account_id = books.account_id;
DROP TABLE turn, talk, talker;
"""


# Unique constraints, then all other indexes. Primary keys stay.
_INDEXES = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
        format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname,
            pg_get_constraintdef(oid))
    FROM pg_constraint WHERE contype = 'u' AND conrelid::regclass::text = ANY(%(tables)s)
UNION ALL
SELECT format('DROP INDEX %%s', indexrelid::regclass), pg_get_indexdef(indexrelid)
    FROM pg_index WHERE indrelid::regclass::text = ANY(%(tables)s)
        AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid
            AND contype IN ('p', 'u'))
"""


def add_channels(url: str, count: int, *, first: int = 0) -> None:
    """Add channels that nobody uses, each with an account, credits, and a key."""
    with _filling(url) as connection:
        connection.execute(_CHANNELS, {"count": count, "first": first, "history": HISTORY})


def add_messages(
    url: str,
    *,
    whose: str,
    name: str,
    messages: int = 0,
    sessions: int = 0,
    turns: int = TURNS_OF_A_SESSION,
) -> None:
    """Add messages or sessions over 30 days, to channels whose names are LIKE `whose`.

    All sessions go on until now. If a number of messages is wanted, only a few sessions run at a
    time.
    """
    alive = sessions > 0
    beside = sessions or SESSIONS_BESIDE
    sessions = sessions or max(beside, messages // (2 * turns) // beside * beside)
    told = {
        "whose": whose,
        "name": name,
        "turns": turns,
        "sessions": sessions,
        "beside": beside,
        "alive": alive,
        "question": QUESTION,
        "reply": REPLY,
    }
    with _filling(url) as connection:
        connection.execute(_ID7 + _SESSIONS.replace("id7(", "pg_temp.id7("), told)
        if 2 * sessions * turns < MESSAGES_WORTH_A_REBUILD:
            connection.execute(_ROWS, told)
            return
        with _without_indexes(connection):
            connection.execute(_ROWS, told)


def settle(url: str) -> None:
    """Do what autovacuum would have done, so that it does not start during the measurement."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


@contextmanager
def _filling(url: str) -> Iterator[Connection]:
    """Yield a connection whose one transaction ends with it.

    The client fills in the parameters: many statements go in one string, and none is prepared.
    """
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
        # Only a superuser may do this. Without it each row's foreign keys are checked.
        with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        yield connection


@contextmanager
def _without_indexes(connection: Connection) -> Iterator[None]:
    """Drop what is faster to build afterwards, in the same transaction."""
    found = connection.execute(_INDEXES, {"tables": _FILLED}).fetchall()
    for drop, _ in found:
        connection.execute(drop)
    yield
    for _, build in found:
        connection.execute(build)

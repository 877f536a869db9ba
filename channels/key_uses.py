"""When, from where, and how often keys are used.

A request only appends to this process's memory (channels/authentication.py). A thread of its own
adds up what they appended and writes it: each key a few seconds after its first use, then at most
once a minute, and everything when the worker stops. Several processes add their counts up. A
process that is killed loses up to a minute of notes, and nothing that limits or charges depends on
them.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, Sum
from django.utils import timezone

from channels.models import Account, ApiKey, Channel, KeyHour, KeyUse
from common import db
from common.clock import HONEST_SKEW
from common.floods import address_in
from server import stopping

logger = logging.getLogger("gateway.channels")

WRITE_EVERY_SECONDS = 60.0
LOOK_EVERY_SECONDS = 5.0
# Keys noted at once, about 1 KB each. Beyond that, the note of the longest unused key is lost.
MOST_KEYS = 10_000
# Requests appended, 2 KB each at most, before one of them adds them up itself.
MOST_SEEN = 5_000
# Keys written in one transaction, so that it is short on SQLite too, where others wait for it.
KEYS_AT_ONCE = 100
QUIET = timedelta(hours=24)
WEEK = timedelta(days=7)
_KEPT = timedelta(days=8)
_HOUR = 3600
LONGEST_AGENT = 200
# Long enough for the addresses of any chain of trusted proxies, which are the last entries.
LONGEST_FORWARDED = 1_000
# At the end of a worker. The parent kills it soon after.
_LAST_WRITE_SECONDS = 3.0


@dataclass(slots=True)
class _Note:
    """What this process knows of a key's use since it last wrote it."""

    # By hour since 1970: requests, and those of them that the limit per minute refused.
    counts: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    used_at: float = 0.0
    # Which address they stand for is found out when they are written.
    peer: str = ""
    forwarded: str = ""
    user_agent: str = ""
    write_at: float = 0.0


# What requests append: key, time, peer, header of the proxies, user agent, whether the limit per
# minute admitted them. Nothing is lost here, because an owner may retire a key that seems unused,
# and one busy key must not hide the others.
seen: deque[tuple[uuid.UUID, float, str, str, str, bool]] = deque()
_notes: OrderedDict[uuid.UUID, _Note] = OrderedDict()
_lock = threading.Lock()
# Whether this process has its thread.
has_writer = False


def catch_up() -> None:
    """Start the writer for the first request; add up if requests append faster than it looks."""
    if not has_writer:
        start_writer()
    if len(seen) >= MOST_SEEN:
        with _lock:
            _add_up()


def start_writer() -> None:
    """Start this process's thread, once."""
    global has_writer
    with _lock:
        if has_writer:
            return
        has_writer = True
    stopping.before_end(write_all, seconds=_LAST_WRITE_SECONDS)
    threading.Thread(target=_write_on, name="key-uses", daemon=True).start()


def _write_on() -> None:
    while True:
        time.sleep(LOOK_EVERY_SECONDS)
        try:
            write(now=time.time())
        except Exception:
            # Whatever the cause, such as an unreachable database, the notes are kept for later.
            logger.exception("keys.uses.unwritten")
        finally:
            connection.close()


def write_all() -> None:
    """Write everything that this process has noted."""
    write(now=float("inf"))


def write(*, now: float) -> None:
    """Write the notes that are due at `now`. On an error, keeps those that were not written."""
    due = _take(now)
    # In one order, so that two processes never wait for each other's rows.
    ordered = sorted(due.items())
    for first in range(0, len(ordered), KEYS_AT_ONCE):
        some = ordered[first : first + KEYS_AT_ONCE]
        try:
            with transaction.atomic():
                for key_id, taken in some:
                    _write_one(key_id, taken)
        except Exception:
            _put_back(due, write_at=now + WRITE_EVERY_SECONDS)
            raise
        for key_id, _ in some:
            del due[key_id]


def _take(now: float) -> dict[uuid.UUID, _Note]:
    """Remove and return what is due. Forgets keys that were not used for a while."""
    due: dict[uuid.UUID, _Note] = {}
    with _lock:
        _add_up()
        for key_id, found in list(_notes.items()):
            if now < found.write_at <= now + WRITE_EVERY_SECONDS:
                continue
            del _notes[key_id]
            if found.counts:
                due[key_id] = found
                if now != float("inf"):
                    _notes[key_id] = _Note(write_at=now + WRITE_EVERY_SECONDS)
    return due


def _add_up() -> None:
    """Add what requests appended to the notes of their keys. Needs the lock."""
    for _ in range(len(seen)):
        key_id, used_at, peer, forwarded, user_agent, is_admitted = seen.popleft()
        note = _notes.setdefault(key_id, _Note())
        _notes.move_to_end(key_id)
        if len(_notes) > MOST_KEYS:
            _notes.popitem(last=False)
        hour = int(used_at) // _HOUR
        note.counts[hour] += 1
        if not is_admitted:
            note.refused[hour] += 1
        note.used_at, note.peer = used_at, peer
        note.forwarded, note.user_agent = forwarded, user_agent


def _put_back(unwritten: Mapping[uuid.UUID, _Note], *, write_at: float) -> None:
    with _lock:
        for key_id, taken in unwritten.items():
            newer = _notes.get(key_id)
            if newer is None or not newer.counts:
                taken.write_at = write_at
                _notes[key_id] = taken
                continue
            newer.counts.update(taken.counts)
            newer.refused.update(taken.refused)


# Only if the key still exists: its channel may have been deleted since.
_ADD_HOUR = """
INSERT INTO channels_keyhour AS h (key_id, starts_at, count, refused_count)
SELECT k.id, %(starts_at)s, %(count)s, %(refused)s FROM channels_apikey k WHERE k.id = %(key)s
ON CONFLICT (key_id, starts_at) DO UPDATE
   SET count = h.count + excluded.count, refused_count = h.refused_count + excluded.refused_count
"""
# A time beyond honest skew was written by a wrong clock, and gives way (docs/decisions/0029).
_SET_USE = """
INSERT INTO channels_keyuse AS u (key_id, last_used_at, address, user_agent)
SELECT k.id, %(used_at)s, %(address)s, %(user_agent)s FROM channels_apikey k WHERE k.id = %(key)s
ON CONFLICT (key_id) DO UPDATE
   SET last_used_at = excluded.last_used_at, address = excluded.address,
       user_agent = excluded.user_agent
 WHERE u.last_used_at <= excluded.last_used_at OR u.last_used_at > %(believed)s
"""


def _write_one(key_id: uuid.UUID, taken: _Note) -> None:
    key = db.param(key_id)
    for hour, count in taken.counts.items():
        starts_at = db.param(datetime.fromtimestamp(hour * _HOUR, UTC))
        counted = {"count": count, "refused": taken.refused[hour]}
        db.execute(_ADD_HOUR, {"key": key, "starts_at": starts_at} | counted)
    params = {
        "key": key,
        "used_at": db.param(datetime.fromtimestamp(taken.used_at, UTC)),
        "address": address_in(taken.peer, taken.forwarded),
        # Headers may hold any byte but NUL and line ends. This is what a page can show of them.
        "user_agent": "".join(c for c in taken.user_agent if c.isprintable()),
        "believed": db.param(timezone.now() + HONEST_SKEW),
    }
    db.execute(_SET_USE, params)


@dataclass(frozen=True, slots=True)
class UseOfKey:
    """What is known of a key's use. Up to a minute behind (see above)."""

    last: KeyUse | None
    in_day: int
    in_week: int

    def quiet_since(self, key: ApiKey) -> datetime:
        """Return since when the key is known to be unused.

        A key without any use may be older than these notes, so it counts from its rotation.
        """
        if self.last:
            return self.last.last_used_at
        return max(key.created_at, key.rotated_at or key.created_at)


def list_uses(key_ids: Iterable[uuid.UUID], *, now: datetime) -> dict[uuid.UUID, UseOfKey]:
    """Return the use of each key. Day and week are the last 24 and 168 hours, the first partly."""
    ids = list(key_ids)
    counted = KeyHour.objects.filter(key_id__in=ids, starts_at__gt=now - WEEK).values("key_id")
    sums = {
        row["key_id"]: (row["day"] or 0, row["week"])
        for row in counted.annotate(
            week=Sum("count"), day=Sum("count", filter=Q(starts_at__gt=now - QUIET))
        )
    }
    last = KeyUse.objects.in_bulk(ids)
    return {key_id: UseOfKey(last.get(key_id), *sums.get(key_id, (0, 0))) for key_id in ids}


def list_refused(account: Account, *, now: datetime, most: int) -> list[Any]:
    """Return the channels whose limit per minute refused most live requests in the last 24 hours.

    Each has `refused`: how many.
    """
    channels = Channel.objects.filter(
        account=account,
        api_keys__mode=ApiKey.Mode.LIVE,
        api_keys__hours__starts_at__gt=now - QUIET,
        api_keys__hours__refused_count__gt=0,
    ).only("name", "requests_per_minute")
    refused = channels.annotate(refused=Sum("api_keys__hours__refused_count"))
    return list(refused.order_by("-refused", "name")[:most])


def forget_old_hours() -> int:
    """Delete the counts that no page sums any more. Returns how many."""
    return KeyHour.objects.filter(starts_at__lt=timezone.now() - _KEPT).delete()[0]

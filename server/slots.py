"""How much a process does at once: requests it works on, bodies it reads, calls it has in flight.

Slots bound the work. A request holds a slot while it needs the CPU and the database, and gives it
back while its body arrives and while a provider answers, so that slow clients and slow answers
never delay quick refusals. All of this sheds load in one process. No limit and no money depends on
it.

API requests also go through lanes, a few that keep the interpreter busy: one runs Python, the
others wait for the database. More requests at once would only compete with each other, and make
PostgreSQL do the same (docs/decisions/0020).

The server gives a request its thread once the headers are there. Reading a body blocks that thread
until the body is complete or the client disconnects; nothing can interrupt it. So a process reads
few bodies at once, and few of them for one owner. If a read takes too long, another thread sends
the response while the blocked thread keeps waiting. A process with many threads blocked on clients
that never leave asks to be replaced.

The call gate bounds the calls in flight, in total and for each account and channel, and refuses a
request beyond that at once.
"""

from __future__ import annotations

import io
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from common.errors import ApiError, InvalidRequest, LengthRequired, Overloaded, PayloadTooLarge
from server.answers import CountedStream, plain_answer, whole

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("gateway.api")

# Probes are answered within a second, however busy the slots are.
PROBE_PATHS = ("/healthz", "/readyz")
API_PREFIXES = ("/api/", "/v1/")
# The largest body of a page. The API has its own limits.
PAGE_BODY_BYTES = 1024 * 1024
# How long a request waits for a slot before the gateway answers 503.
SLOT_WAIT_SECONDS = 30.0
LANES = 4
# A request stuck in its lane (on a row lock, say) blocks the next one for at most this long.
LANE_WAIT_SECONDS = 0.25
# A call that returns must settle before its hold expires, with or without a slot.
RETURN_WAIT_SECONDS = 3.0
DRAIN_LOOK_SECONDS = 0.02

# Reads at once in a process, and for one owner. Includes reads that have been answered but still
# block their thread.
MOST_READS = 256
MOST_READS_OF_ONE = 64
# How long a body may take from the first read to its last byte. The short limit applies while half
# of the places are taken.
PATIENCE_SECONDS = 10.0
SHORT_PATIENCE_SECONDS = 1.0
WATCH_SECONDS = 0.25
# A process with this many answered reads still blocked is worn.
WORN_READS = 32

# After a refusal, the gateway goes on reading what the server does not take from the socket itself,
# so that the client can read the answer. These limit how many at once, and for how long.
DRAIN_BYTES = 64 * 1024
MOST_DRAINS = 16
DRAIN_SECONDS = 2.0

TOO_SLOW = f"The body did not arrive within {PATIENCE_SECONDS:.0f} seconds. Send it without pauses."
TOO_MANY = "Too many request bodies are arriving right now. Try again shortly."


class Places:
    """At most `count` at once. The others wait in line, first come, first served."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._lock = threading.Lock()
        self._line: deque[threading.Lock] = deque()

    def enter(self, seconds: float) -> bool:
        """Take a place. Returns False if none came free within `seconds`."""
        with self._lock:
            if self.taken < self.count and not self._line:
                self.taken += 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._line.append(turn)
        return turn.acquire(timeout=seconds) or not self._give_up(turn)

    def _give_up(self, turn: threading.Lock) -> bool:
        """Leave the line. Returns False if `leave` gave this waiter a place at this very moment."""
        with self._lock:
            if turn not in self._line:
                return False
            self._line.remove(turn)
            return True

    def enter_anyway(self) -> None:
        """Take a place beyond the number."""
        with self._lock:
            self.taken += 1

    def leave(self) -> None:
        """Give the place up and let the next ones in."""
        with self._lock:
            self.taken -= 1
            while self._line and self.taken < self.count:
                self.taken += 1
                self._line.popleft().release()


def size_of(environ: dict[str, Any]) -> int | None:
    """Return the declared length of a body: 0 if there is none, None if it is chunked."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    declared = environ.get("CONTENT_LENGTH") or "0"
    return int(declared) if declared.isascii() and declared.isdigit() else 0


@dataclass(eq=False, slots=True)
class Read:
    """A body being read: its request, its start, and the headers of a late answer."""

    environ: dict[str, Any]
    since: float
    late_headers: Mapping[str, str]
    is_late: bool = False


class Bodies:
    """All request bodies that one process is reading.

    `answer_late` answers for a request whose own thread is blocked, with an error and its headers.
    """

    def __init__(self, answer_late: Callable[[Read], None], on_worn: Callable[[], None]) -> None:
        self._answer_late = answer_late
        self._on_worn = on_worn
        self._reads: dict[Read, None] = {}  # oldest first
        self._by_owner: Counter[Hashable] = Counter()
        self._drains = threading.BoundedSemaphore(MOST_DRAINS)
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._watch: threading.Thread | None = None

    def read(
        self,
        environ: dict[str, Any],
        size: int,
        *,
        owner: Hashable,
        late_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """Return up to `size` bytes of a body. Raises Overloaded if no place is free.

        If the body takes too long, another thread answers the client, with `late_headers`. Then
        this raises the same InvalidRequest, and the response of this thread is discarded
        (`gateway.answered` in the environ).
        """
        read = Read(environ, time.monotonic(), late_headers)
        with self._lock:
            if len(self._reads) >= MOST_READS or self._by_owner[owner] >= MOST_READS_OF_ONE:
                raise Overloaded(TOO_MANY)
            self._reads[read] = None
            self._by_owner[owner] += 1
            if self._watch is None:
                self._watch = threading.Thread(target=self._keep_watch, daemon=True)
                self._watch.start()
        if not self._some.is_set():
            self._some.set()
        try:
            body: bytes = environ["wsgi.input"].read(size)
        finally:
            with self._lock:
                del self._reads[read]
                self._by_owner[owner] -= 1
                if not self._by_owner[owner]:
                    del self._by_owner[owner]
        if len(body) < size or environ.get("CONTENT_LENGTH") == str(size):
            environ["gateway.body_read"] = True
        if read.is_late:
            environ["gateway.answered"] = True
            raise InvalidRequest(TOO_SLOW)
        return body

    def _keep_watch(self) -> None:
        """Answer for reads that take too long, for as long as the process lives."""
        while self._some.wait():
            time.sleep(WATCH_SECONDS)
            late, lost = self._find_late()
            for read in late:
                try:
                    self._answer_late(read)
                except Exception:  # one failure must not end the watch
                    logger.exception("api.body.not_answered")
            if lost >= WORN_READS:
                self._on_worn()

    def _find_late(self) -> tuple[list[Read], int]:
        """Return the reads that have just become late, and how many are late in total."""
        with self._lock:
            if not self._reads:
                self._some.clear()
            has_room = len(self._reads) < MOST_READS // 2
            patience = PATIENCE_SECONDS if has_room else SHORT_PATIENCE_SECONDS
            begun_before = time.monotonic() - patience
            overdue = list(itertools.takewhile(lambda read: read.since < begun_before, self._reads))
            late = [read for read in overdue if not read.is_late]
            for read in late:
                read.is_late = True
            return late, sum(read.is_late for read in self._reads)

    def drain(self, environ: dict[str, Any]) -> None:
        """Read and discard what the client still sends after it was answered."""
        size = size_of(environ)
        is_small = size is not None and size <= DRAIN_BYTES
        if is_small or not {"gateway.body_read", "gateway.answered"}.isdisjoint(environ):
            return
        if not self._drains.acquire(blocking=False):
            return
        try:
            until = time.monotonic() + DRAIN_SECONDS
            while time.monotonic() < until and environ["wsgi.input"].read(DRAIN_BYTES):
                pass
        finally:
            self._drains.release()


class _Held(threading.local):
    """The slots that the request on this thread holds, and whether it takes a lane as well."""

    slots: Slots | None = None
    takes_lane = False


_held = _Held()


class Slots:
    """WSGI middleware: works on at most `limit` requests at once; the others wait.

    A request never holds a slot while its body arrives. A page's body is read before the page takes
    a slot. The API reads a body once it knows the caller, and gives the slot back meanwhile. Probes
    skip the queue. A request that waits too long is passed on with a `gateway.refusal`, so that the
    application renders the error.

    Paths that begin with one of `quick`, the API's prefixes, also take a lane. Paths that begin
    with one of `files` are handed to the server in one piece, because a stream would keep its
    thread for as long as its reader likes.

    `on_worn` is called when the process should be replaced.
    """

    def __init__(
        self,
        app: WSGIApplication,
        limit: int,
        quick: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
        on_worn: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self._quick = quick
        self._files = files
        self._places = Places(limit)
        self._lanes = Places(LANES)
        self.bodies = Bodies(self._answer_late, on_worn)
        self._in_flight = 0
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] in PROBE_PATHS:
            return self.app(environ, start_response)
        with self._lock:
            self._in_flight += 1
        stream = None
        try:
            _held.takes_lane = environ["PATH_INFO"].startswith(self._quick)
            if _held.takes_lane:
                environ["gateway.slots"] = self
            else:
                self._read_page_body(environ)
            if not self._enter(SLOT_WAIT_SECONDS):
                environ["gateway.refusal"] = Overloaded()
            try:
                response = self.app(environ, start_response)
            finally:
                self._leave()
            if isinstance(response, list):
                return response
            is_file = environ["PATH_INFO"].startswith(self._files)
            if is_file or not getattr(response, "streaming", True):
                return whole(response)
            # Its work is done except for waiting, so now only draining counts it.
            stream = CountedStream(response, self._count_off)
            return stream
        except ApiError as error:  # from a page's body; every other error was answered
            return plain_answer(error, start_response)
        finally:
            # If another thread answered a late request, that thread has counted it.
            if stream is None and "gateway.answered" not in environ:
                with self._lock:
                    self._in_flight -= 1

    def _read_page_body(self, environ: WSGIEnvironment) -> None:
        """Read the whole body first, so that no slot waits for it."""
        size = size_of(environ)
        if size is None:
            raise LengthRequired
        if size > PAGE_BODY_BYTES:
            raise PayloadTooLarge(PAGE_BODY_BYTES)
        if size:
            environ["wsgi.input"] = io.BytesIO(self.bodies.read(environ, size, owner="pages"))

    def _answer_late(self, read: Read) -> None:
        """Answer for a request whose own thread is blocked; what that thread answers is ignored."""
        headers = {**read.late_headers, "Connection": "close"}
        error = InvalidRequest(TOO_SLOW, headers=headers)
        try:
            self._answer_instead(read.environ, error)
        finally:
            self._count_off()

    def _answer_instead(self, environ: WSGIEnvironment, error: ApiError) -> None:
        answer: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], Any]:
            answer[:] = [int(status.split(" ", 1)[0]), headers]
            return lambda data: None

        if environ["PATH_INFO"].startswith(self._quick):
            again = environ | {"wsgi.input": io.BytesIO(), "gateway.refusal": error}
            body = whole(self.app(again, start))
        else:
            body = plain_answer(error, start)
        environ["gateway.respond"](*answer, b"".join(body))

    def _enter(self, seconds: float) -> bool:
        if not self._places.enter(seconds):
            return False
        _held.slots = self
        if _held.takes_lane and not self._lanes.enter(LANE_WAIT_SECONDS):
            self._lanes.enter_anyway()
        return True

    def _leave(self) -> None:
        if _held.slots is None:
            return
        if _held.takes_lane:
            self._lanes.leave()
        _held.slots = None
        self._places.leave()

    def _count_off(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def drain(self, timeout: float) -> bool:
        """Wait for calls whose client has left; the server itself waits only for connections."""
        # Polls, because this runs once in a process's life and requests should not pay for it.
        until = time.monotonic() + timeout
        while self._in_flight and time.monotonic() < until:
            time.sleep(DRAIN_LOOK_SECONDS)
        return not self._in_flight


class slot_given_back:  # noqa: N801  # used like a function; a generator costs five times as much
    """Give the slot back during the block, which only waits. Does nothing outside `Slots`."""

    def __enter__(self) -> None:
        self._slots = _held.slots
        if self._slots is not None:
            self._slots._leave()

    def __exit__(self, *exception: object) -> None:
        if self._slots is not None:
            self._slots._enter(RETURN_WAIT_SECONDS)


def handed_over() -> Callable[[], AbstractContextManager[None]]:
    """Give up this thread's slot and lane. The thread that continues takes them for its block."""
    slots, takes_lane = _held.slots, _held.takes_lane
    if slots is None:
        return nullcontext
    slots._leave()

    @contextmanager
    def holding() -> Iterator[None]:
        _held.takes_lane = takes_lane
        slots._enter(SLOT_WAIT_SECONDS)
        try:
            yield
        finally:
            slots._leave()

    return holding


class CallGate:
    """At most `limit` calls in flight, and a share of them for each account.

    If there is only one account, it may use all of them. A channel may use half of its account's
    share.
    """

    def __init__(self, limit: int, per_account: int) -> None:
        self._limit = limit
        self._per_account = min(limit, per_account)
        self._taken: Counter[Hashable] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def call(
        self, account: Hashable, channel: Hashable, *, is_only_account: bool = False
    ) -> Iterator[None]:
        """Hold a place for the block. Raises Overloaded at once if there is none."""
        share = self._limit if is_only_account else self._per_account
        bounds = {
            "all": self._limit,
            ("account", account): share,
            ("channel", channel): max(1, share // 2),
        }
        with self._lock:
            if any(self._taken[whose] >= most for whose, most in bounds.items()):
                raise Overloaded("The gateway is answering too many messages. Try again shortly.")
            self._taken.update(bounds.keys())
        try:
            yield
        finally:
            with self._lock:
                self._taken.subtract(bounds.keys())
                for whose in bounds:
                    if not self._taken[whose]:
                        del self._taken[whose]

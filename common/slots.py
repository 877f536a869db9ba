"""How many requests a process works on at once, and how many calls it has in flight.

Slots bound the work: a request holds one while it needs the CPU and the database, and gives it
back while a provider talks, so that slow answers never hold up quick refusals. The call gate
bounds what is in flight, and what of that is one account's or one channel's: past it a request is
refused at once. Both shed load in one process; no limit or money depends on them.

Requests of the API go in lanes, as many as keep the interpreter busy while others wait for the
database. More beside them would only take it from each other, and have PostgreSQL do the same
(docs/decisions/0020).
"""

from __future__ import annotations

import io
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from common import bodies
from common.errors import ApiError, InvalidRequest, LengthRequired, Overloaded, PayloadTooLarge

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# They have an answer within a second, whatever the slots are busy with.
PROBE_PATHS = ("/healthz", "/readyz")
# The largest body of a page. The API has limits of its own.
PAGE_BODY_BYTES = 1024 * 1024
# How long a request waits for a slot before it is answered 503.
SLOT_WAIT_SECONDS = 30.0
TOO_SLOW = (
    f"The body did not arrive within {bodies.PATIENCE_SECONDS:.0f} seconds. Send it in one go."
)
FEWEST_LANES = 2
# Whoever is held up in a lane, by another's lock say, holds others up no longer than this.
LANE_WAIT_SECONDS = 0.25
# One stay in so many is measured: a thread's CPU is a system call to ask for, twice a stay. No
# multiple of the two or three stays that a message has, so that all kinds have their turn.
MEASURED_STAYS = 5
# How fast the number of lanes follows: it doubles within 173 stays measured, and halves within 16.
STEP_UP = 1.004
STEPS_DOWN = 11
# A call that comes back must settle before its hold expires, with a slot or without.
RETURN_WAIT_SECONDS = 3.0
DRAIN_LOOK_SECONDS = 0.02


class Places:
    """At most `count` at once; the others wait in line, first come, first served."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._lock = threading.Lock()
        self._line: deque[threading.Lock] = deque()

    def enter(self, seconds: float) -> bool:
        """Take a place; False where none came free in so many seconds."""
        with self._lock:
            if self.taken < self.count and not self._line:
                self.taken += 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._line.append(turn)
        return turn.acquire(timeout=seconds) or not self._give_up(turn)

    def _give_up(self, turn: threading.Lock) -> bool:
        """Step out of the line; False where one was let in at this very moment."""
        with self._lock:
            if turn not in self._line:
                return False
            self._line.remove(turn)
            return True

    def leave(self) -> None:
        """Let the next ones in."""
        with self._lock:
            self.taken -= 1
            while self._line and self.taken < self.count:
                self.taken += 1
                self._line.popleft().release()


class Lane(NamedTuple):
    """Since when somebody is in a lane: time on the clock and of this thread's CPU, in seconds."""

    clock: float
    cpu: float


class Lanes(Places):
    """As many at once as the work needs: one in the interpreter, the others in the database.

    With c of CPU and w in all for each, w / c of them keep one interpreter busy (Goetz et al., Java
    Concurrency in Practice, 8.2). In w, waiting for the interpreter or for a processor counts as
    well and cannot be told apart: so it is the ratio of those who had to wait least, one in twelve.
    It is followed by small steps, eleven times larger downwards than upwards (frugal streaming, Ma
    et al. 2013): of a thousand stays, 83 are below it.
    """

    def __init__(self, most: int) -> None:
        super().__init__(FEWEST_LANES)
        self._most = max(most, FEWEST_LANES)
        self._ratio = float(FEWEST_LANES)
        self._stays = itertools.count()

    def enter_soon(self) -> Lane | None:
        """Wait for a lane, but not for long. Returns how a stay that is measured began."""
        if not self.enter(LANE_WAIT_SECONDS):
            with self._lock:
                self.taken += 1
        if next(self._stays) % MEASURED_STAYS:
            return None
        return Lane(time.perf_counter(), time.thread_time())

    def measure(self, lane: Lane) -> None:
        """Learn from a stay that ends; called by the thread that entered."""
        clock, cpu = time.perf_counter() - lane.clock, time.thread_time() - lane.cpu
        with self._lock:
            self._ratio *= STEP_UP if clock > self._ratio * cpu else STEP_UP**-STEPS_DOWN
            self._ratio = min(max(self._ratio, FEWEST_LANES), self._most)
            self.count = round(self._ratio)


class _Held(threading.local):
    """What the request on this thread holds of which slots; a lane too, if it takes one."""

    slots: Slots | None = None
    takes_lane = False
    lane: Lane | None = None


_held = _Held()


class Slots:
    """WSGI middleware: at most `limit` requests are worked on at once; the others wait.

    Bodies never arrive under a slot: a page's is read before it takes one, the API reads its own
    once it knows whose it is, and gives the slot back meanwhile. Probes skip the queue. A
    request that waits too long is passed on with a `gateway.refusal`, for the application to answer
    in its own words. Paths that begin with one of `quick`, the API's, take a lane as well. What
    begins with one of `files` is handed to the server in one piece: a stream would keep its thread
    for as long as its reader likes.

    `on_worn` is called where a process should be replaced (common/bodies.py).
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
        self._lanes = Lanes(limit)
        self.bodies = bodies.Bodies(on_worn)
        self._in_flight = 0
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] in PROBE_PATHS:
            return self.app(environ, start_response)
        self._count(1)
        stream = None
        try:
            if environ["PATH_INFO"].startswith(self._quick):
                environ["gateway.slots"] = self
            else:
                self._read_page_body(environ)
            response = self._work(environ, start_response)
            if isinstance(response, list):
                return response
            is_file = environ["PATH_INFO"].startswith(self._files)
            if is_file or not getattr(response, "streaming", True):
                return whole(response)
            # Its work is done but for waiting; only draining still counts it.
            stream = CountedStream(response, lambda: self._count(-1))
            return stream
        except ApiError as error:  # of a page's body; all others have been answered
            return plain_answer(error, start_response)
        finally:
            # Whoever answered for a request that was late has counted it.
            if stream is None and "gateway.answered" not in environ:
                self._count(-1)

    def _read_page_body(self, environ: WSGIEnvironment) -> None:
        """Replace the body by its bytes, so that no slot waits for it."""
        size = bodies.size_of(environ)
        if size is None:
            raise LengthRequired
        if size > PAGE_BODY_BYTES:
            raise PayloadTooLarge(PAGE_BODY_BYTES)
        if size:
            late = InvalidRequest(TOO_SLOW, headers={"Connection": "close"})
            body = self.read_body(environ, size, owner="pages", late=late)
            environ["wsgi.input"] = io.BytesIO(body)

    def read_body(
        self, environ: WSGIEnvironment, size: int, *, owner: Hashable, late: ApiError
    ) -> bytes:
        """Return up to so many bytes of a body; `late` is what it is answered if it takes too long.

        Raises Overloaded where too many are read already, and `late` where it came too late.
        """

        def answer_late() -> None:
            try:
                self._answer_instead(environ, late)
            finally:
                self._count(-1)

        body = self.bodies.read(environ, size, owner=owner, answer_late=answer_late)
        if "gateway.answered" in environ:
            raise late
        return body

    def _answer_instead(self, environ: WSGIEnvironment, error: ApiError) -> None:
        """Answer a request whose own thread cannot; what that one answers is ignored then."""
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

    def _work(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _held.takes_lane = environ["PATH_INFO"].startswith(self._quick)
        if not self._enter(SLOT_WAIT_SECONDS):
            environ["gateway.refusal"] = Overloaded()
            return self.app(environ, start_response)
        try:
            return self.app(environ, start_response)
        finally:
            self._leave()

    def _enter(self, seconds: float) -> bool:
        if not self._places.enter(seconds):
            return False
        _held.slots = self
        if _held.takes_lane:
            _held.lane = self._lanes.enter_soon()
        return True

    def _leave(self) -> None:
        if _held.slots is None:
            return
        if _held.takes_lane:
            if _held.lane:
                self._lanes.measure(_held.lane)
            self._lanes.leave()
        _held.slots = _held.lane = None
        self._places.leave()

    def _count(self, change: int) -> None:
        with self._lock:
            self._in_flight += change

    def drain(self, timeout: float) -> bool:
        """Wait for calls whose client has left: the server itself waits for connections only."""
        # Looks again and again, once in a process's life, rather than be told by each request.
        until = time.monotonic() + timeout
        while self._in_flight and time.monotonic() < until:
            time.sleep(DRAIN_LOOK_SECONDS)
        return not self._in_flight


class _GivenBack:
    """A block during which others have this request's slot."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def __enter__(self) -> None:
        self._slots._leave()

    def __exit__(self, *exception: object) -> None:
        self._slots._enter(RETURN_WAIT_SECONDS)


def slot_given_back() -> AbstractContextManager[None]:
    """Let others work during the block, which only waits; nothing happens outside `Slots`."""
    slots = _held.slots
    return nullcontext() if slots is None else _GivenBack(slots)


def handed_over() -> Callable[[], AbstractContextManager[None]]:
    """Give back what this thread holds; the thread that works on takes as much for its block."""
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


class CountedStream:
    """A streamed body that says once when it was closed."""

    def __init__(self, body: Iterable[bytes], on_close: Callable[[], None]) -> None:
        self._body = body
        self._on_close: Callable[[], None] | None = on_close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is None:
            return
        try:
            close(self._body)
        finally:
            on_close()


def whole(body: Iterable[bytes]) -> list[bytes]:
    """Return a body that is there already in one piece, and close it."""
    try:
        return [b"".join(body)]
    finally:
        close(body)


def close(body: Iterable[bytes]) -> None:
    """Close a response body, if it can be."""
    if hasattr(body, "close"):
        body.close()


def plain_answer(error: ApiError, start_response: StartResponse) -> list[bytes]:
    """Answer a page's request that cannot be passed on, in plain text."""
    body = f"{error.message}\n".encode()
    headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    headers |= error.headers
    if error.retry_after:
        headers["Retry-After"] = str(error.retry_after)
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", [*headers.items()])
    return [body]


class CallGate:
    """At most `limit` calls in flight, and a share of them for one account.

    An only account may use all of them. Within its share, one channel has half.
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
        """Hold a place for the block. Raises Overloaded at once where there is none."""
        share = self._limit if is_only_account else self._per_account
        bounds = {
            "all": self._limit,
            ("account", account): share,
            ("channel", channel): max(1, share // 2),
        }
        with self._lock:
            if any(self._taken[whose] >= most for whose, most in bounds.items()):
                raise Overloaded("Too many messages are being answered at the moment.")
            self._taken.update(bounds.keys())
        try:
            yield
        finally:
            with self._lock:
                self._taken.subtract(bounds.keys())
                for whose in bounds:
                    if not self._taken[whose]:
                        del self._taken[whose]

"""How a process bounds its work and its calls in flight."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from queue import Queue
from typing import Any

import pytest

from common.errors import Overloaded
from server import slots as slots_module
from server.answers import close
from server.slots import (
    PAGE_BODY_BYTES,
    CallGate,
    Places,
    Slots,
    handed_over,
    slot_given_back,
)

LATE = 60.0  # ends a test that hangs


class Body:
    """A response body as Django makes it: iterable, closable, streamed or not."""

    def __init__(self, chunks: list[bytes], streaming: bool) -> None:
        self.chunks = chunks
        self.streaming = streaming
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks)

    def close(self) -> None:
        self.closed += 1


def environ_of(path: str = "/x", body: bytes = b"", **extra: Any) -> dict[str, Any]:
    return {"PATH_INFO": path, "wsgi.input": io.BytesIO(body), **extra}


def slots_around(body: Iterable[bytes], limit: int = 1) -> tuple[Slots, list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.append(dict(environ))
        return body

    return Slots(app, limit), seen


def ignore(*args: Any) -> Callable[[bytes], object]:
    return lambda data: None


def test_a_whole_response_gives_its_slot_back_at_once() -> None:
    body = Body([b"a", b"b"], streaming=False)
    slots, _ = slots_around(body)
    assert slots(environ_of(), ignore) == [b"ab"]
    assert slots(environ_of(), ignore) == [b"ab"]
    assert body.closed == 2
    assert slots.drain(0)


def test_a_stream_holds_no_slot_but_is_waited_for_and_closes_once() -> None:
    body = Body([b"a"], streaming=True)
    slots, _ = slots_around(body)
    response = slots(environ_of(), ignore)
    assert list(response) == [b"a"]
    assert slots._places.taken == 0
    assert not slots.drain(0)
    close(response)
    close(response)
    assert body.closed == 1
    assert slots.drain(0)


def test_a_file_is_handed_over_whole_so_that_no_thread_waits_for_its_reader() -> None:
    body = Body([b"a", b"b"], streaming=True)
    slots = Slots(lambda environ, start_response: body, 1, files=("/static/",))
    assert slots(environ_of("/static/a.css"), ignore) == [b"ab"]
    assert body.closed == 1
    assert slots.drain(0)


def test_an_error_gives_the_slot_back() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise RuntimeError

    slots = Slots(app, 1)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            slots(environ_of(), ignore)
    assert slots.drain(0)


def test_liveness_needs_no_slot_and_a_late_request_is_marked(monkeypatch: Any) -> None:
    monkeypatch.setattr(slots_module, "SLOT_WAIT_SECONDS", 0.01)
    slots, seen = slots_around(Body([], streaming=False))
    assert slots._places.enter(0)
    slots(environ_of("/healthz"), ignore)
    slots(environ_of(), ignore)
    assert "gateway.refusal" not in seen[0]
    assert isinstance(seen[1]["gateway.refusal"], Overloaded)
    assert slots._places.taken == 1


def test_a_slot_is_given_back_while_a_request_only_waits() -> None:
    taken: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with slot_given_back():
            taken.append(slots._places.taken)
        taken.append(slots._places.taken)
        return Body([b"a"], streaming=False)

    slots = Slots(app, 1)
    assert slots(environ_of(), ignore) == [b"a"]
    assert taken == [0, 1]
    assert slots._places.taken == 0
    with slot_given_back():
        pass  # outside a request there is nothing to give back


def wait_for_line(places: Places, length: int) -> None:
    give_up_at = time.monotonic() + LATE
    while len(places._line) < length:
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


class Line:
    """An application whose requests stay inside until the test lets them go."""

    def __init__(self) -> None:
        self.slots = Slots(self._work, 8, quick=("/api/",))
        self.inside: Queue[str] = Queue()
        self.going = threading.Event()
        self.waits = threading.Event()
        self.threads: list[threading.Thread] = []

    def _work(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.inside.put(path)
        if path == "/api/waits":
            with slot_given_back():
                self.waits.wait(LATE)
            self.inside.put("/api/back")
        self.going.wait(LATE)
        return Body([], streaming=False)

    def send(self, *paths: str) -> None:
        for path in paths:
            thread = threading.Thread(target=self.slots, args=(environ_of(path), ignore))
            thread.start()
            self.threads.append(thread)

    def next_inside(self) -> str:
        return self.inside.get(timeout=LATE)

    def next_waiting(self) -> None:
        """Wait until one request is in line for a lane, and check that none got in meanwhile."""
        wait_for_line(self.slots._lanes, 1)
        assert self.inside.empty()


@pytest.fixture
def line(monkeypatch: Any) -> Iterator[Line]:
    monkeypatch.setattr(slots_module, "LANE_WAIT_SECONDS", LATE)
    monkeypatch.setattr(slots_module, "LANES", 2)
    made = Line()
    yield made
    made.going.set()
    made.waits.set()
    for thread in made.threads:
        thread.join(LATE)
    assert made.slots._lanes.taken == made.slots._places.taken == 0


def test_as_many_requests_as_lanes_are_worked_on_and_the_next_one_waits(line: Line) -> None:
    line.send("/api/a", "/api/b")
    assert {line.next_inside(), line.next_inside()} == {"/api/a", "/api/b"}
    line.send("/api/c")
    line.next_waiting()
    line.going.set()
    assert line.next_inside() == "/api/c"


def test_pages_neither_wait_for_a_lane_nor_take_one(line: Line) -> None:
    line.send("/page", "/page", "/api/a", "/api/b")
    assert sorted(line.next_inside() for _ in range(4)) == ["/api/a", "/api/b", "/page", "/page"]
    line.send("/page")
    assert line.next_inside() == "/page"


def test_a_call_that_waits_for_its_provider_leaves_its_lane_and_takes_one_again(
    line: Line,
) -> None:
    line.send("/api/waits")
    assert line.next_inside() == "/api/waits"
    line.send("/api/a", "/api/b")
    assert {line.next_inside(), line.next_inside()} == {"/api/a", "/api/b"}
    line.waits.set()
    line.next_waiting()
    line.going.set()
    assert line.next_inside() == "/api/back"


def test_nobody_waits_for_a_lane_for_long(line: Line, monkeypatch: Any) -> None:
    monkeypatch.setattr(slots_module, "LANE_WAIT_SECONDS", 0.01)
    line.send(*["/api/a"] * 8)
    assert [line.next_inside() for _ in range(8)] == ["/api/a"] * 8


def test_a_slot_is_handed_over_to_the_thread_that_does_the_work() -> None:
    taken: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        taken.append(slots._lanes.taken)
        holding = handed_over()

        def work() -> None:
            with holding():
                taken.append(slots._lanes.taken)
                with slot_given_back():
                    taken.append(slots._lanes.taken)
                taken.append(slots._lanes.taken)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        taken.append(slots._lanes.taken)
        return Body([], streaming=False)

    slots = Slots(app, 1, quick=("/api/",))
    assert slots(environ_of("/api/x"), ignore) == [b""]
    assert taken == [1, 1, 0, 1, 0]
    assert slots._places.taken == 0


def test_a_free_place_is_for_the_one_who_waits_first() -> None:
    lanes = Places(2)
    came: list[int] = []

    def work(number: int) -> None:
        assert lanes.enter(LATE)
        came.append(number)
        lanes.leave()

    assert lanes.enter(0)
    assert lanes.enter(0)
    threads = []
    for number in range(4):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        wait_for_line(lanes, number + 1)
    lanes.leave()
    for thread in threads:
        thread.join(LATE)
    assert came == [0, 1, 2, 3]


def test_whoever_waits_in_vain_has_no_place_and_is_in_nobodys_way() -> None:
    places = Places(1)
    assert places.enter(0)
    assert not places.enter(0.01)
    places.leave()
    assert places.taken == 0
    assert places.enter(0)


def test_draining_waits_until_the_last_one_is_done(line: Line) -> None:
    line.send("/api/a", "/page")
    assert {line.next_inside(), line.next_inside()} == {"/api/a", "/page"}
    assert not line.slots.drain(0.01)
    line.going.set()
    assert line.slots.drain(LATE)


def test_handing_over_nothing_is_nothing() -> None:
    with handed_over()():
        assert slots_module._held.slots is None


def held(gate: CallGate, *whose: tuple[str, str], is_only_account: bool = False) -> ExitStack:
    """Hold a place for each account and channel. Raises Overloaded if one has none."""
    with ExitStack() as places:
        for account, channel in whose:
            places.enter_context(gate.call(account, channel, is_only_account=is_only_account))
        return places.pop_all()


def refuses(gate: CallGate, account: str, channel: str, *, is_only_account: bool = False) -> bool:
    try:
        held(gate, (account, channel), is_only_account=is_only_account).close()
    except Overloaded:
        return True
    return False


def test_an_account_has_half_of_the_calls_and_a_channel_half_of_these() -> None:
    gate = CallGate(8, 4)
    with held(gate, ("a", "a1"), ("a", "a1")):
        assert refuses(gate, "a", "a1")
        with held(gate, ("a", "a2"), ("a", "a2")):
            assert refuses(gate, "a", "a3")  # so only the account's share can refuse
            with held(gate, *[("b", "b1"), ("b", "b2")] * 2):
                assert refuses(gate, "c", "c1")
    assert not gate._taken
    assert not refuses(gate, "a", "a1")


def test_the_only_account_has_all_calls_and_a_channel_half() -> None:
    gate = CallGate(8, 4)
    places = [("a", f"a{n % 2}") for n in range(8)]
    with held(gate, *places[:6], is_only_account=True):
        # With a second account, the share applies again.
        assert refuses(gate, "a", "a3")
        assert not refuses(gate, "b", "b1")
        with held(gate, *places[6:], is_only_account=True):
            assert refuses(gate, "a", "a3", is_only_account=True)
    with held(gate, *[("a", "a1")] * 4, is_only_account=True):
        assert refuses(gate, "a", "a1", is_only_account=True)


def test_a_refused_call_holds_nothing() -> None:
    gate = CallGate(1, 1)
    with held(gate, ("a", "a1")):
        for _ in range(3):
            assert refuses(gate, "b", "b1")
    assert not gate._taken


# --- bodies ---------------------------------------------------------------------------------


class Started:
    """What an application sends before its body."""

    def __call__(self, status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        self.status, self.headers = status, dict(headers)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"CONTENT_LENGTH": str(PAGE_BODY_BYTES + 1)}, "413 Request Entity Too Large"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "411 Length Required"),
    ],
)
def test_no_page_is_given_a_body_that_has_not_arrived(headers: dict[str, str], status: str) -> None:
    slots, seen = slots_around(Body([], streaming=False))
    started = Started()
    slots(environ_of(body=b"abc", **headers), started)
    assert started.status == status
    assert not seen
    assert slots.drain(0)


def test_a_page_is_given_its_whole_body_and_no_more() -> None:
    slots, seen = slots_around(Body([], streaming=False))
    slots(environ_of(body=b"abcdef", CONTENT_LENGTH="3"), ignore)
    assert seen[0]["wsgi.input"].read() == b"abc"


class HeldBack:
    """A body that never arrives until its client disconnects."""

    def __init__(self) -> None:
        self.is_waited_for = threading.Event()
        self.left = threading.Event()

    def read(self, size: int) -> bytes:
        self.is_waited_for.set()
        self.left.wait(LATE)
        return b"a"


class SlowClients:
    """Clients that send their headers and then nothing, and the answers they get."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.bodies: list[HeldBack] = []
        self.threads: list[threading.Thread] = []
        self.answers: Queue[tuple[int, bytes]] = Queue()

    def send(self, path: str = "/page") -> None:
        body = HeldBack()
        environ = environ_of(path, CONTENT_LENGTH="3") | {"wsgi.input": body}
        environ["gateway.respond"] = lambda status, headers, data: self.answers.put((status, data))
        self.bodies.append(body)
        self.threads.append(threading.Thread(target=self.slots, args=(environ, ignore)))
        self.threads[-1].start()
        assert body.is_waited_for.wait(LATE)

    def leave(self) -> None:
        for body in self.bodies:
            body.left.set()
        for thread in self.threads:
            thread.join(LATE)


@pytest.fixture
def worn() -> threading.Event:
    return threading.Event()


@pytest.fixture
def slow_clients(monkeypatch: Any, worn: threading.Event) -> Iterator[SlowClients]:
    monkeypatch.setattr(slots_module, "WATCH_SECONDS", 0.01)
    clients = SlowClients(Slots(lambda environ, start: [b""], 1, on_worn=worn.set))
    yield clients
    clients.leave()


def test_a_body_that_does_not_come_is_answered_holds_no_slot_and_is_not_waited_for_at_the_end(
    slow_clients: SlowClients, monkeypatch: Any
) -> None:
    slow_clients.send()
    assert slow_clients.slots._places.taken == 0
    assert not slow_clients.slots.drain(0)
    monkeypatch.setattr(slots_module, "PATIENCE_SECONDS", 0.0)
    assert slow_clients.answers.get(timeout=LATE)[0] == 400
    assert slow_clients.slots.drain(LATE)
    slow_clients.leave()
    assert slow_clients.slots.drain(0)


def test_where_half_the_places_are_taken_nobody_is_waited_for_as_long(
    slow_clients: SlowClients, monkeypatch: Any
) -> None:
    monkeypatch.setattr(slots_module, "MOST_READS", 4)
    monkeypatch.setattr(slots_module, "SHORT_PATIENCE_SECONDS", 0.0)
    slow_clients.send()
    slow_clients.send()
    assert [slow_clients.answers.get(timeout=LATE)[0] for _ in range(2)] == [400, 400]


def test_one_owner_leaves_places_to_others(slow_clients: SlowClients, monkeypatch: Any) -> None:
    monkeypatch.setattr(slots_module, "MOST_READS_OF_ONE", 1)
    slow_clients.send()
    started = Started()
    slow_clients.slots(environ_of(body=b"abc", CONTENT_LENGTH="3"), started)
    assert started.status == "503 Service Unavailable"
    assert started.headers["Retry-After"]
    read = slow_clients.slots.bodies.read
    other = environ_of("/api/x", body=b"abc", CONTENT_LENGTH="3")
    assert read(other, 3, owner="another") == b"abc"
    slow_clients.leave()
    assert not slow_clients.slots.bodies._by_owner


def test_a_process_in_which_many_wait_for_nobody_asks_to_be_replaced(
    slow_clients: SlowClients, worn: threading.Event, monkeypatch: Any
) -> None:
    monkeypatch.setattr(slots_module, "WORN_READS", 2)
    monkeypatch.setattr(slots_module, "PATIENCE_SECONDS", 0.0)
    slow_clients.send()
    assert slow_clients.answers.get(timeout=LATE)[0] == 400
    assert not worn.is_set()
    slow_clients.send()
    assert worn.wait(LATE)


class Counted(io.BytesIO):
    """A body that records how much of it was read."""

    def read_bytes(self) -> int:
        return self.tell()


@pytest.mark.parametrize(
    ("sent", "headers", "read"),
    [
        (100, {"CONTENT_LENGTH": "100"}, 0),  # the server drains this much itself
        (300_000, {"CONTENT_LENGTH": "300000"}, 300_000),
        (300_000, {"HTTP_TRANSFER_ENCODING": "chunked"}, 300_000),
        (300_000, {"HTTP_TRANSFER_ENCODING": "chunked", "gateway.body_read": True}, 0),
    ],
)
def test_what_a_refused_client_still_sends_is_read_on(
    monkeypatch: Any, sent: int, headers: dict[str, Any], read: int
) -> None:
    monkeypatch.setattr(slots_module, "DRAIN_SECONDS", LATE)
    slots, _ = slots_around(Body([], streaming=False))
    body = Counted(b"a" * sent)
    slots.bodies.drain(environ_of() | headers | {"wsgi.input": body})
    assert body.read_bytes() == read


def test_a_refused_client_that_sends_for_ever_is_left_after_a_while(monkeypatch: Any) -> None:
    monkeypatch.setattr(slots_module, "DRAIN_SECONDS", 0.0)
    slots, _ = slots_around(Body([], streaming=False))
    body = Counted(b"a" * 300_000)
    slots.bodies.drain(environ_of(CONTENT_LENGTH="300000") | {"wsgi.input": body})
    assert body.read_bytes() == 0

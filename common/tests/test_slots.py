"""How work and calls in flight are bounded in one process."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from common import slots as slots_module
from common.errors import Overloaded
from common.slots import PREREAD_BYTES, CallGate, Slots, close, read_body, slot_given_back


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
    assert slots._semaphore.acquire(blocking=False)
    assert not slots.drain(0)
    close(response)
    close(response)
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
    assert slots._semaphore.acquire()
    slots(environ_of("/healthz"), ignore)
    slots(environ_of(), ignore)
    assert "gateway.overloaded" not in seen[0]
    assert seen[1]["gateway.overloaded"] is True
    assert not slots._semaphore.acquire(blocking=False)


def test_a_slot_is_given_back_while_a_request_only_waits() -> None:
    free_inside: list[bool] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with slot_given_back():
            free_inside.append(slots._semaphore.acquire(blocking=False))
            slots._semaphore.release()
        free_inside.append(slots._semaphore.acquire(blocking=False))
        return Body([b"a"], streaming=False)

    slots = Slots(app, 1)
    assert slots(environ_of(), ignore) == [b"a"]
    assert free_inside == [True, False]
    assert slots._semaphore.acquire(blocking=False)
    with slot_given_back():
        pass  # outside of any request there is nothing to give back


def test_the_call_gate_refuses_at_once_and_keeps_half_for_others() -> None:
    gate = CallGate(4)
    with gate.call("a"), gate.call("a"):
        with pytest.raises(Overloaded), gate.call("a"):
            pass
        with gate.call("b"), gate.call("c"), pytest.raises(Overloaded), gate.call("d"):
            pass
    assert not gate._by_owner
    with gate.call("a"):
        pass


def test_the_process_environment_stays_out_of_requests(monkeypatch: Any) -> None:
    monkeypatch.setenv("SOME_SECRET", "x")
    slots, seen = slots_around(Body([], streaming=False))
    slots(environ_of(SOME_SECRET="x", REQUEST_METHOD="GET"), ignore)
    assert "SOME_SECRET" not in seen[0]
    assert seen[0]["REQUEST_METHOD"] == "GET"


@pytest.mark.parametrize("length", ["", "0", "1x", "-1", "٣", str(PREREAD_BYTES + 1)])
def test_leaves_bodies_alone_that_it_should_not_read(length: str) -> None:
    environ = environ_of(body=b"abc", CONTENT_LENGTH=length)
    before = environ["wsgi.input"]
    read_body(environ)
    assert environ["wsgi.input"] is before


def test_reads_no_more_than_the_declared_length() -> None:
    environ = environ_of(body=b"abcdef", CONTENT_LENGTH="3")
    read_body(environ)
    assert environ["wsgi.input"].read() == b"abc"

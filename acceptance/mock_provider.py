"""An OpenAI-compatible provider that does what a test tells it, including faults.

    python -m acceptance.mock_provider --port 9000     (0: any free port, printed at the start)

A call's last user message, or /control/settings for all calls, chooses what the call does:

    fault:NAME     one of mock_faults' tables       latency:MS    the wait before the answer
    FAMILY/NAME    a recorded shape of mock_recorded.py
    gap:MS         the wait between stream pieces   size:N        the reply's length

Every reply contains the number of its call, so that what a caller stored can be compared with what
was completed here.

    GET  /control/stats         calls, completed, in_flight, most_in_flight, connections
    GET  /control/completions   the calls answered in full, oldest first
    GET  /control/prompts       the messages of every call, oldest first
    GET  /control/calls         when each call arrived (time.monotonic), and its last message
    POST /control/settings      {"fault": NAME or "", "latency_ms": MS}, for calls that name none
    POST /control/reset         forgets everything above
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from acceptance.mock_faults import FAULTS, OWN_FAULTS, Call, answer, encode, error_body
from acceptance.mock_recorded import RECORDED_FAULTS, shape_named_in
from tests.shapes import response

ORDER = re.compile(r"\b(fault|latency|gap|size):(\w+)")
LOGGED_CHARACTERS = 1000
HOST = "127.0.0.1"
_FAULTS = FAULTS | OWN_FAULTS | RECORDED_FAULTS


@dataclass(slots=True)
class State:
    """What the provider was told to do, and everything it has done."""

    fault: str = ""
    latency_ms: float = 0.0
    calls: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    connections: int = 0
    completions: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[Any] = field(default_factory=list)
    called: list[dict[str, Any]] = field(default_factory=list)

    def stats(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "completed": len(self.completions),
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "connections": self.connections,
        }

    def set(self, told: dict[str, Any]) -> None:
        self.fault = str(told.get("fault", self.fault))
        self.latency_ms = float(told.get("latency_ms", self.latency_ms))

    def reset(self) -> None:
        self.fault, self.latency_ms = "", 0.0
        self.calls, self.most_in_flight = 0, self.in_flight
        self.completions.clear()
        self.prompts.clear()
        self.called.clear()


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request of a connection, or None at its end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    method, path, *_ = head.split(" ", 2)
    length = re.search(r"^content-length:\s*(\d+)", head, re.IGNORECASE | re.MULTILINE)
    body = await reader.readexactly(int(length.group(1))) if length else b""
    return Request(method, path, body)


class MockProvider:
    """Answers each connection's requests one after the other, until it ends."""

    def __init__(self) -> None:
        self.state = State()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.state.connections += 1
        try:
            while not writer.is_closing() and (request := await read_request(reader)):
                if request.path.endswith("/v1/chat/completions"):
                    await self.complete(request, reader, writer)
                else:
                    writer.write(self.other(request))
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller left
        finally:
            self.state.connections -= 1
            writer.close()

    async def complete(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one call, or fail as instructed."""
        state = self.state
        state.calls += 1
        state.in_flight += 1
        state.most_in_flight = max(state.most_in_flight, state.in_flight)
        try:
            asked = json.loads(request.body)
            state.prompts.append(asked["messages"])
            call = new_call(state.calls, asked, reader, writer)
            state.called.append({"at": time.monotonic(), "message": call.message})
            orders = dict(ORDER.findall(call.message))
            call.reply = call.reply.ljust(int(orders.get("size", 0)), "x")
            call.gap_seconds = float(orders.get("gap", 0)) / 1000
            await call.silence(float(orders.get("latency", state.latency_ms)) / 1000)
            fault = orders.get("fault") or shape_named_in(call.message) or state.fault
            if await (_FAULTS[fault](call) if fault else answer(call)):
                state.completions.append(logged(call, fault))
        finally:
            state.in_flight -= 1

    def other(self, request: Request) -> bytes:
        """Answer the control calls and the list of models."""
        match request.path:
            case "/v1/models":
                models = [{"id": "mock-model", "object": "model", "owned_by": "mock"}]
                return response(encode({"object": "list", "data": models}))
            case "/control/stats":
                return response(encode(self.state.stats()))
            case "/control/completions":
                return response(encode(self.state.completions))
            case "/control/prompts":
                return response(encode(self.state.prompts))
            case "/control/calls":
                return response(encode(self.state.called))
            case "/control/settings":
                self.state.set(json.loads(request.body))
            case "/control/reset":
                self.state.reset()
            case _:
                return response(error_body(404), status="404 Not Found")
        return response(encode(self.state.stats()))


def new_call(
    number: int, asked: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Call:
    """Read a chat request. Counts words as tokens, so that no estimate matches by chance."""
    messages = asked["messages"]
    message = str(messages[-1]["content"])
    reply = f"Reply {number} to: {message[:200]}"
    return Call(
        reader=reader,
        writer=writer,
        number=number,
        message=message,
        reply=reply,
        prompt_lengths=[len(str(part["content"])) for part in messages],
        prompt_tokens=sum(len(str(part["content"]).split()) + 3 for part in messages),
        completion_tokens=len(reply.split()),
        is_stream=bool(asked.get("stream")),
        with_usage=bool((asked.get("stream_options") or {}).get("include_usage")),
        asked=asked,
        gap_seconds=0.0,
    )


def logged(call: Call, fault: str) -> dict[str, Any]:
    return {
        "number": call.number,
        "message": call.message,
        "reply": call.reply[:LOGGED_CHARACTERS],
        "prompt_lengths": call.prompt_lengths,
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "stream": call.is_stream,
        "fault": fault,
    }


async def main(port: int) -> None:
    server = await asyncio.start_server(MockProvider().serve, HOST, port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(main(parser.parse_args().port))

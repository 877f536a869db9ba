"""A provider that costs almost nothing: prebuilt answers, after a chosen wait.

    python -m bench.mock        listens on a free port and prints it

    POST /latency/MS            sets the wait before answers and the first piece of streams
    POST /gap/MS                sets the wait between two pieces of a stream
    POST anything else          a chat completion, or a stream if the body asks for one

Streams are 50 pieces, at first 10 ms apart. The first piece says when it was sent, by the clock
that all processes of a machine share.

acceptance/mock_provider.py can do far more: it reads what it is asked, and knows faults. It stays
apart, because that takes ten times the CPU, which the gateway beside it would lack. The two share
the bytes of answers (tests/shapes.py).
"""

from __future__ import annotations

import json
import signal
import socket
import time
from functools import partial

from bench.load import raise_file_limit
from bench.loop import READ_BYTES, Loop, content_length
from tests.shapes import DONE, LAST_CHUNK, chunked, chunked_head, event, response

REPLY_CHARACTERS = 1_400
PIECES = 50
PIECE_GAP_SECONDS = 0.010
HOST = "127.0.0.1"

WORDS = "Certainly: the parcel leaves our house within two working days and is then yours. "
REPLY = (WORDS * (REPLY_CHARACTERS // len(WORDS) + 1))[:REPLY_CHARACTERS]
USAGE = {"prompt_tokens": 900, "completion_tokens": 350, "total_tokens": 1250}


def plain_answer() -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "bench-model",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": REPLY},
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        }
    ).encode()
    return response(body)


def piece(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "model": "bench-model"}
    return chunked(event(json.dumps(body | {"choices": [choice]}).encode()))


def streamed_answer() -> list[bytes]:
    """Return what is sent, piece by piece. The head goes with the first one."""
    size = REPLY_CHARACTERS // PIECES
    pieces = [piece({"content": REPLY[at : at + size]}) for at in range(0, size * PIECES, size)]
    usage = chunked(event(json.dumps({"choices": [], "usage": USAGE}).encode()))
    end = piece({}, "stop") + usage + chunked(DONE) + LAST_CHUNK
    return [chunked_head(), *pieces[1:], end]


def stamped_piece() -> bytes:
    """Return a stream's first piece, which contains the time, where load.py finds it."""
    return piece({"content": f"@{time.perf_counter_ns()}@".ljust(REPLY_CHARACTERS // PIECES)})


PLAIN = plain_answer()
STREAMED = streamed_answer()
SETTING_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


class Provider:
    """Accepts connections, and knows how long answers take."""

    def __init__(self, loop: Loop, listener: socket.socket) -> None:
        self.loop = loop
        self.latency_seconds = 0.0
        self.gap_seconds = PIECE_GAP_SECONDS
        self._listener = listener
        loop.on_readable(listener, self.accept)

    def accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, sock)
        self.loop.on_readable(sock, connection.read)


class Connection:
    """One caller, who waits for each answer before asking again."""

    def __init__(self, provider: Provider, sock: socket.socket) -> None:
        self.provider = provider
        self.sock = sock
        self.buffer = b""

    def read(self) -> None:
        try:
            received = self.sock.recv(READ_BYTES)
        except OSError:
            received = b""
        if not received:
            self.provider.loop.forget(self.sock)
            return
        buffer = self.buffer + received if self.buffer else received
        head_ends = buffer.find(b"\r\n\r\n")
        if head_ends < 0 or len(buffer) < head_ends + 4 + content_length(buffer[: head_ends + 2]):
            self.buffer = buffer
            return
        self.buffer = b""
        self.answer(buffer)

    def answer(self, request: bytes) -> None:
        provider = self.provider
        if request.startswith(b"POST /latency/"):
            provider.latency_seconds = float(request[14:].split(b" ", 1)[0]) / 1000
            self.send(SETTING_TAKEN)
        elif request.startswith(b"POST /gap/"):
            provider.gap_seconds = float(request[10:].split(b" ", 1)[0]) / 1000
            self.send(SETTING_TAKEN)
        elif request.find(b'"stream":true', -200) >= 0:
            self.stream(0, time.perf_counter() + provider.latency_seconds)
        elif provider.latency_seconds:
            due = time.perf_counter() + provider.latency_seconds
            provider.loop.at(due, partial(self.send, PLAIN))
        else:
            self.send(PLAIN)

    def stream(self, number: int, due: float) -> None:
        """Send a piece when it is due, then schedule the next one."""

        def send() -> None:
            self.send(STREAMED[number] if number else STREAMED[0] + stamped_piece())
            if number + 1 < len(STREAMED):
                self.stream(number + 1, due + self.provider.gap_seconds)

        self.provider.loop.at(due, send)

    def send(self, data: bytes) -> None:
        # An answer is smaller than any socket's buffer, so it goes out whole or not at all.
        try:
            self.sock.send(data)
        except OSError:
            pass  # the caller left


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_file_limit()
    loop = Loop()
    listener = socket.create_server((HOST, 0), backlog=1024)
    Provider(loop, listener)
    print(listener.getsockname()[1], flush=True)
    loop.run()


if __name__ == "__main__":
    main()

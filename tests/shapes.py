"""The bytes of HTTP answers, for every provider that stands in for a real one.

Their contents differ on purpose: recorded ones, faults, and the cheapest ones for measuring.
"""

from __future__ import annotations

JSON = "application/json"
EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"
# Ends a chunked body.
LAST_CHUNK = b"0\r\n\r\n"


def response(
    body: bytes, *, status: str = "200 OK", content_type: str = JSON, headers: str = ""
) -> bytes:
    """Return a whole HTTP response with a declared length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked_head(*, status: str = "200 OK", content_type: str = EVENTS, headers: str = "") -> bytes:
    """Return what goes before a chunked body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{headers}"
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: bytes) -> bytes:
    """Return a server-sent event."""
    return b"data: " + data + b"\n\n"

"""What a WSGI application returns: in one piece, counted until it is closed, or as plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from common.errors import ApiError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


class CountedStream:
    """A streamed body that calls `on_close` once, when it is closed."""

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
    """Return a complete body in one piece, and close it."""
    try:
        return [b"".join(body)]
    finally:
        close(body)


def close(body: Iterable[bytes]) -> None:
    """Close a response body, if it has a close method."""
    if hasattr(body, "close"):
        body.close()


def plain_answer(error: ApiError, start_response: StartResponse) -> list[bytes]:
    """Answer a page's request in plain text when it cannot be passed on."""
    body = f"{error.message}\n".encode()
    headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    headers |= error.headers
    if error.retry_after:
        headers["Retry-After"] = str(error.retry_after)
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", [*headers.items()])
    return [body]

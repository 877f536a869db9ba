"""Files that are written while they are sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

from django.http import StreamingHttpResponse

ZIP = "application/zip"
PIECE_BYTES = 65_536


def download(
    pieces: Iterable[str] | Iterable[bytes], *, name: str, content_type: str
) -> StreamingHttpResponse:
    """Return a response that sends a file under the given name and is never cached."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if content_type != ZIP:
        content_type += "; charset=utf-8"
    return StreamingHttpResponse(pieces, content_type=content_type, headers=headers)


def zip_pieces(files: Iterable[tuple[str, Iterable[str]]]) -> Iterator[bytes]:
    """Yield a ZIP archive while its files are read: names, and texts in pieces.

    No more than a piece and PIECE_BYTES are in memory, whatever the size of a file.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, pieces in files:
            # Sizes are unknown beforehand, so each file gets the format for large ones.
            with archive.open(name, "w", force_zip64=True) as file:
                for piece in pieces:
                    file.write(piece.encode())
                    if len(sink.written) >= PIECE_BYTES:
                        yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that cannot seek: holds what was written until somebody takes it."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: Any) -> int:
        self.written += data
        return len(data)

    def take(self) -> bytes:
        taken, self.written = bytes(self.written), bytearray()
        return taken

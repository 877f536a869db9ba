"""Files that are written while they are sent."""

from __future__ import annotations

from collections.abc import Iterable

from django.http import StreamingHttpResponse


def download(pieces: Iterable[str], *, name: str, content_type: str) -> StreamingHttpResponse:
    """Return a response that sends a file under the given name and is never cached."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingHttpResponse(
        pieces, content_type=f"{content_type}; charset=utf-8", headers=headers
    )

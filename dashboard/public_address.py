"""The public address of this installation, for e-mails, snippets, and the API reference."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def site_url(request: HttpRequest) -> str:
    """Return the base URL of the pages, without a trailing slash.

    Without PUBLIC_URL, it comes from the request. That is right on a developer's machine. But
    behind a proxy it is whatever the proxy passes on, and in an e-mail it is whatever host and port
    the requester chose, who may be a stranger.
    """
    return settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")


def with_public_links(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return an e-mail's context with links at the public address, and the address itself."""
    asked, public = request.build_absolute_uri("/"), site_url(request)
    changed = {
        name: f"{public}/{value.removeprefix(asked)}"
        for name, value in context.items()
        if isinstance(value, str) and value.startswith(asked)
    }
    return context | changed | {"site_url": public}

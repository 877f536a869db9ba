"""Where people find this installation, as mails, snippets and the API reference say it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def site_url(request: HttpRequest) -> str:
    """Return the address of the pages, without a slash at its end.

    As the request has it, where no PUBLIC_URL is set: right on one's own machine, but behind a
    proxy whatever that passes on, and in a mail whatever host and port a stranger asked by.
    """
    return settings.PUBLIC_URL or request.build_absolute_uri("/").rstrip("/")


def with_public_links(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return a mail's context with its links at the public address, which it holds as well."""
    asked, public = request.build_absolute_uri("/"), site_url(request)
    changed = {
        name: f"{public}/{value.removeprefix(asked)}"
        for name, value in context.items()
        if isinstance(value, str) and value.startswith(asked)
    }
    return context | changed | {"site_url": public}

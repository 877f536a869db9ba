"""What people look for, from the address of a page."""

from __future__ import annotations

from django.http import HttpRequest


def read_term(request: HttpRequest, name: str, *, most: int = 200) -> str:
    """Return a parameter without what PostgreSQL could not compare, at most so many characters."""
    return request.GET.get(name, "").replace("\x00", "").strip()[:most]

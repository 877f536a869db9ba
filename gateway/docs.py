"""GET /docs/: the API reference for people."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def api_reference(request: HttpRequest) -> HttpResponse:
    """Show the public API reference; no log-in needed."""
    return render(request, "public/api_reference.html")

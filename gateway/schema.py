"""GET /api/schema: the OpenAPI document, generated once a process."""

from __future__ import annotations

import threading
from functools import cache

from django.http import HttpResponse
from rest_framework.request import Request

from common.api import ApiView
from common.openapi import describe

# drf-spectacular cannot work for two threads at once: it loads its extensions as it goes.
_generating = threading.Lock()


def render_schema(as_yaml: bool) -> bytes:
    """Return the OpenAPI document; it depends on the code alone."""
    with _generating:
        return _generate(as_yaml)


@cache
def _generate(as_yaml: bool) -> bytes:
    # What generates it would slow the start, and few ask for it.
    from gateway import openapi

    return openapi.generate(as_yaml=as_yaml)


class SchemaView(ApiView):
    """The OpenAPI 3 document as JSON, or as YAML for `?format=yaml`."""

    @describe(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        as_yaml = request._request.GET.get("format") == "yaml"
        media_type = (
            "application/vnd.oai.openapi" if as_yaml else "application/vnd.oai.openapi+json"
        )
        return HttpResponse(render_schema(as_yaml), content_type=media_type)

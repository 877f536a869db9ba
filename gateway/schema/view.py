"""GET /api/schema: the OpenAPI document, generated once in each process."""

from __future__ import annotations

import threading
from functools import cache

from django.http import HttpResponse
from rest_framework.request import Request

from common.api.base import ApiView
from common.api.openapi import describe

# drf-spectacular is not thread-safe, because it loads its extensions while it works.
_generating = threading.Lock()


def render_schema(as_yaml: bool) -> bytes:
    """Return the OpenAPI document. It depends only on the code."""
    with _generating:
        return _generate(as_yaml)


@cache
def _generate(as_yaml: bool) -> bytes:
    # Imported here, because it would slow down the start and few callers ask for the document.
    from gateway.schema import generator

    return generator.generate(as_yaml=as_yaml)


class SchemaView(ApiView):
    """The OpenAPI 3 document as JSON, or as YAML for `?format=yaml`."""

    @describe(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        as_yaml = request._request.GET.get("format") == "yaml"
        media_type = (
            "application/vnd.oai.openapi" if as_yaml else "application/vnd.oai.openapi+json"
        )
        return HttpResponse(render_schema(as_yaml), content_type=media_type)

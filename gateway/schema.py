"""GET /api/schema: the OpenAPI document, generated once a process."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from common.api import ApiView


def name_paths_without_slash(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Every path also answers with a trailing slash; the document names it once, without."""
    result["paths"] = {path.rstrip("/"): item for path, item in result["paths"].items()}
    return result


@cache
def render_schema(as_yaml: bool) -> bytes:
    """Return the OpenAPI document; it depends on the code alone."""
    document = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    renderer = OpenApiYamlRenderer() if as_yaml else OpenApiJsonRenderer()
    rendered: bytes = renderer.render(document, renderer_context={})
    return rendered


class SchemaView(ApiView):
    """The OpenAPI 3 document as JSON, or as YAML for `?format=yaml`."""

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        as_yaml = request._request.GET.get("format") == "yaml"
        media_type = (
            "application/vnd.oai.openapi" if as_yaml else "application/vnd.oai.openapi+json"
        )
        return HttpResponse(render_schema(as_yaml), content_type=media_type)

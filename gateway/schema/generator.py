"""Generates the OpenAPI document. Loaded only when somebody needs it (common/api/openapi.py)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema

from channels.account_callers import AccountKeyAuthentication
from channels.authentication import ApiKeyAuthentication


class Generator(SchemaGenerator):
    """drf-spectacular's generator, with what the views declare (common/api/openapi.py).

    The settings name it, so that every use of the generator loads this module and its extension.
    """

    def create_view(self, callback: Any, method: str, request: Any = None) -> Any:
        handler = getattr(callback.cls, method.lower())
        words = getattr(handler, "described", None)
        if words and "schema" not in getattr(handler, "kwargs", {}):
            extend_schema(**words)(handler)
        return super().create_view(callback, method, request)  # type: ignore[no-untyped-call]


def generate(*, as_yaml: bool) -> bytes:
    """Return the OpenAPI document. It depends only on the code."""
    document = Generator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    renderer = OpenApiYamlRenderer() if as_yaml else OpenApiJsonRenderer()
    rendered: bytes = renderer.render(document, renderer_context={})
    return rendered


def name_paths_without_slash(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Strip trailing slashes. Every path also answers with one, but the document lists it once."""
    result["paths"] = {path.rstrip("/"): item for path, item in result["paths"].items()}
    return result


class AccountKeySchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes the same headers with an account key, which opens only /api/manage/."""

    target_class = AccountKeyAuthentication
    name = ["accountKey", "accountBearerKey"]

    def get_security_requirement(self, auto_schema: object) -> list[dict[str, list[str]]]:
        """Return that either header will do."""
        return [{"accountKey": []}, {"accountBearerKey": []}]

    def get_security_definition(self, auto_schema: object) -> list[dict[str, str]]:
        what = {"description": "An account key. A channel's key opens nothing here."}
        return [
            {"type": "apiKey", "in": "header", "name": "X-API-Key", **what},
            {"type": "http", "scheme": "bearer", **what},
        ]


class ApiKeySchema(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes both headers in the OpenAPI document."""

    target_class = ApiKeyAuthentication
    match_subclasses = True
    name = ["apiKey", "bearerKey"]

    def get_security_requirement(self, auto_schema: object) -> list[dict[str, list[str]]]:
        """Return that either header will do."""
        return [{"apiKey": []}, {"bearerKey": []}]

    def get_security_definition(self, auto_schema: object) -> list[dict[str, str]]:
        return [
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            {"type": "http", "scheme": "bearer"},
        ]

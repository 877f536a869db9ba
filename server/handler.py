"""Django's WSGI handler, with a shorter path for the API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.handlers.wsgi import WSGIHandler
from django.db import DEFAULT_DB_ALIAS, connections

from common.api.middleware import API_PREFIXES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Handler(WSGIHandler):
    """Serves pages as Django does, and the API without the parts that only pages need.

    The API path sends no request_started and request_finished signals. With them Django cleans up
    caches, the script prefix, and the URL map, none of which the API uses, and inspects the
    connection each time. The API path also skips cookies, because no API answer sets one.
    """

    def __call__(  # type: ignore[override]  # the stubs know of Django's own responses only
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if not environ["PATH_INFO"].startswith(API_PREFIXES):
            return super().__call__(environ, start_response)
        request = self.request_class(environ)
        response = self._middleware_chain(request)  # type: ignore[attr-defined]  # not in the stubs
        # In place of request_finished: return the connection to the pool; on SQLite, close a broken
        # one.
        connections[DEFAULT_DB_ALIAS].close_if_unusable_or_obsolete()
        start_response(f"{response.status_code} {response.reason_phrase}", [*response.items()])
        # A complete answer has nothing left to close.
        return response if response.streaming else [response.content]

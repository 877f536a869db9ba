"""The WSGI handler: Django's, with a shorter way for the API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.handlers.wsgi import WSGIHandler
from django.db import DEFAULT_DB_ALIAS, connections

from common.middleware import API_PREFIXES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Handler(WSGIHandler):
    """Answers pages as Django does; the API without what only pages need.

    Left out are the signals of a request's start and end, by which Django cleans up caches, script
    prefix and URL map, none of which the API uses, and looks at the connection each time; and
    cookies, which no answer of the API sets.
    """

    def __call__(  # type: ignore[override]  # the stubs know of Django's own responses only
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if not environ["PATH_INFO"].startswith(API_PREFIXES):
            return super().__call__(environ, start_response)
        request = self.request_class(environ)
        response = self._middleware_chain(request)  # type: ignore[attr-defined]  # not in the stubs
        # What request_finished is for: back to the pool with it; on SQLite, close it if it broke.
        connections[DEFAULT_DB_ALIAS].close_if_unusable_or_obsolete()
        start_response(f"{response.status_code} {response.reason_phrase}", [*response.items()])
        # A whole answer has nothing left to close.
        return response if response.streaming else [response.content]

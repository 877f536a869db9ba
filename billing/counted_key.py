"""Finds a key's caller and counts the request in the view's rate window, in one statement.

The contract's order of checks stays: an unknown key is 401 and a disabled channel 403, with nothing
counted. A full window is 429 when DRF asks the throttle.
"""

from __future__ import annotations

from rest_framework.request import Request

from billing.throttling import ChatThrottle
from channels.authentication import ApiKeyAuthentication
from channels.callers import Caller


class CountedKey(ApiKeyAuthentication):
    """Authenticates by key, and counts the request in place of the view's throttle."""

    def find_caller(self, request: Request, key: str) -> Caller | None:
        (throttle,) = request.parser_context["view"].get_throttles()
        assert isinstance(throttle, ChatThrottle)
        caller, minute = throttle.find_and_count(key)
        request._request.minute = minute  # type: ignore[attr-defined]  # read by the throttle
        return caller

"""The key's caller, found and counted by one statement, in the window of the view's throttle.

The order of the contract's checks stays: an unknown key is 401 and a disabled channel 403 with
nothing counted, and a minute that is used up is 429 once the throttle is asked.
"""

from __future__ import annotations

from rest_framework.request import Request

from billing.throttling import ChatThrottle
from channels.authentication import ApiKeyAuthentication
from channels.callers import Caller


class CountedKey(ApiKeyAuthentication):
    """Authenticates by key, and counts the request where the view's throttle would."""

    def find_caller(self, request: Request, key: str) -> Caller | None:
        (throttle,) = request.parser_context["view"].get_throttles()
        assert isinstance(throttle, ChatThrottle)
        caller, minute = throttle.find_and_count(key)
        request._request.minute = minute  # type: ignore[attr-defined]  # read by the throttle
        return caller

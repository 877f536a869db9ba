"""The key's caller, found and counted by one statement; each view says in which window.

The order of the contract's checks stays: an unknown key is 401 and a disabled channel 403 with
nothing counted, and a minute that is used up is 429 once the throttle is asked.
"""

from __future__ import annotations

from django.http import HttpRequest

from billing.throttling import ChatThrottle, ReadThrottle
from channels.authentication import ApiKeyAuthentication
from channels.callers import Caller


class ChatKey(ApiKeyAuthentication):
    """Authenticates a request that counts in the channel's minute; ChatThrottle goes with it."""

    throttle = ChatThrottle()

    def find_caller(self, request: HttpRequest, key: str) -> Caller | None:
        caller, request.minute = self.throttle.find_and_count(key)  # type: ignore[attr-defined]
        return caller


class ReadKey(ChatKey):
    """Authenticates a request that only reads or erases; ReadThrottle goes with it."""

    throttle = ReadThrottle()

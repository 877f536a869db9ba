"""Failures that a test key can request with `X-Simulate`, free of charge."""

from __future__ import annotations

import time

from channels.errors import ProviderError
from channels.providers.base import ChatRequest, Completion, Delta, OnDelta, Patience
from channels.providers.demo import DemoProvider

SLOW_SECONDS = 5.0
# How many pieces of a reply arrive before it breaks off.
PIECES_BEFORE_BREAK = 5


class SimulatedProvider(DemoProvider):
    """A demo that fails (`provider_error`), breaks off (`midstream_error`), or is `slow`."""

    def __init__(self, behaviour: str) -> None:
        super().__init__(is_test=True)
        self._behaviour = behaviour

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        if self._behaviour in ("provider_error", "midstream_error"):
            raise ProviderError("simulated")
        if self._behaviour == "slow":
            time.sleep(SLOW_SECONDS)
        return super().complete(request, patience=patience)

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        if self._behaviour != "midstream_error":
            return super().stream(request, patience=patience, on_delta=on_delta)
        pieces = 0

        def count(delta: Delta) -> None:
            nonlocal pieces
            pieces += 1
            on_delta(delta)
            if pieces == PIECES_BEFORE_BREAK:
                raise ProviderError("simulated")

        whole = DemoProvider(is_test=True)
        return whole.stream(request, patience=patience, on_delta=count)

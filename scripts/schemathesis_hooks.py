"""Hooks for schemathesis (scripts/schemathesis.toml)."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Request no simulated error, because the gateway would rightly answer with a 5xx."""
    (case.headers or {}).pop("X-Simulate", None)

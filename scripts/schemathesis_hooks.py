"""Hooks for schemathesis (scripts/schemathesis.toml)."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Change what the document cannot describe.

    Request no simulated error, because the gateway would rightly answer with a 5xx. Keep an
    Idempotency-Key printable: a pattern would be broken with white space, which servers strip.
    """
    headers = case.headers or {}
    headers.pop("X-Simulate", None)
    if key := headers.get("Idempotency-Key"):
        headers["Idempotency-Key"] = "".join(filter(str.isprintable, key))

"""What schemathesis leaves out (scripts/schemathesis.toml)."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Ask for no simulated error: a 5xx would be the right answer to it."""
    (case.headers or {}).pop("X-Simulate", None)

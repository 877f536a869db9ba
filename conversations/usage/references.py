"""The ids by which callers and owners name a reply, and the session of a request without one."""

from __future__ import annotations

import uuid

# A failed or replayed request `m` belongs to the session `s`. The same session id may have begun
# several sessions, one after the other.
IN_SESSION = """m.channel_id = s.channel_id AND m.is_test = s.is_test
  AND m.session_id = s.session_id AND m.created_at >= s.created_at
  AND m.created_at <= COALESCE(s.closed_at, m.created_at)"""

# Prefixes of a reply's id under /v1, as OpenAI clients expect them.
COMPLETION_PREFIX = "chatcmpl-"
RESPONSE_PREFIX = "resp_"


def read_reply_id(reference: str) -> uuid.UUID | None:
    """Return the reply's id in a message, completion, or response id, or None for anything else."""
    try:
        return uuid.UUID(reference.removeprefix(COMPLETION_PREFIX).removeprefix(RESPONSE_PREFIX))
    except ValueError:
        return None

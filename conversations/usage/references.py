"""The ids by which callers and owners name a reply."""

from __future__ import annotations

import uuid

# Prefixes of a reply's id under /v1, as OpenAI clients expect them.
COMPLETION_PREFIX = "chatcmpl-"
RESPONSE_PREFIX = "resp_"


def read_reply_id(reference: str) -> uuid.UUID | None:
    """Return the reply's id in a message, completion, or response id, or None for anything else."""
    try:
        return uuid.UUID(reference.removeprefix(COMPLETION_PREFIX).removeprefix(RESPONSE_PREFIX))
    except ValueError:
        return None

"""Log lines: one JSON object each, with the request's id, and without secrets."""

from __future__ import annotations

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id_var: ContextVar[str] = ContextVar("request_id", default="")

# Whatever looks like one of our keys, a bearer token or a provider's key. The second line of
# defence: the first is never to log them.
_SECRETS = re.compile(
    r"(amgai_[A-Za-z0-9_]{4})[A-Za-z0-9]+|(?i:(bearer\s+))[^\s\"',]+|((?:sk|gsk)[-_])[A-Za-z0-9_-]{8,}"
)
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def scrub(text: str) -> str:
    """Return the text with everything that looks like a key cut down to its prefix."""
    return _SECRETS.sub(lambda match: next(filter(None, match.groups())) + "…", text)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; what is passed as `extra` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if request_id := request_id_var.get():
            entry["request_id"] = request_id
        entry |= {
            k: v for k, v in vars(record).items() if k not in _RECORD_FIELDS and k != "request"
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return scrub(json.dumps(entry, default=str, ensure_ascii=False))

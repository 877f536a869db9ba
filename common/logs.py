"""Log lines: one JSON object each, with the request id and without secrets."""

from __future__ import annotations

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from django.http import HttpRequest

request_id_var: ContextVar[str] = ContextVar("request_id", default="")

# Text that looks like one of our keys (any prefix, then 42 base62 characters), a bearer token, or a
# provider's key. This is the second line of defence; the first is never to log them.
_SECRETS = re.compile(
    r"(?<=[_-])[0-9A-Za-z]{42}(?![0-9A-Za-z])"
    r"|(?i:(bearer\s+))[^\s\"',]+"
    r"|(\b(?:sk|gsk)[-_])[A-Za-z0-9_-]{8,}"
)
# Marks that every secret above contains. JSON escapes can hide where a secret begins or ends, but
# not these. Nearly every line has none of them, so looking for them is enough: three words, and a
# run of 42 base62 characters (a run of "a" once all letters and digits are replaced by "a").
# Regular expressions take three times as long.
_LONG_RUN = b"a" * 42
_SHAPE = bytes(ord("a") if chr(byte).isalnum() and byte < 128 else byte for byte in range(256))
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# `request` is Django's; the others are fields of the line itself.
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "request", "time", "level", "logger", "event",
}  # fmt: skip


def scrub(text: str) -> str:
    """Return the text with everything that looks like a key cut to its prefix."""
    return _SECRETS.sub(lambda match: next(filter(None, match.groups()), "") + "…", text)


def _scrubbed(value: Any) -> Any:
    """Scrub the strings inside a value, before quoting can hide where they end."""
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return scrub(str(value))


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of ASCII JSON. Each item of `extra` becomes a field."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if request_id := request_id_var.get():
            entry["request_id"] = request_id
        # An item of `extra` never replaces a field of the line itself.
        for name, value in vars(record).items():
            if name not in _RECORD_FIELDS and name not in entry:
                entry[name] = value
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        try:
            line = orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # a lone surrogate, or a number too large
            return json.dumps(_scrubbed(entry))
        low = line.lower()
        has_mark = b"sk-" in low or b"sk_" in low or b"bearer" in low
        if has_mark or _LONG_RUN in low.translate(_SHAPE):
            return json.dumps(_scrubbed(entry))
        # Nearly every line contains a masked key, and so an ellipsis.
        text = line.decode().replace("…", r"\u2026")
        if text.isascii():
            return text
        # This includes Unicode line breaks, which log readers may take for the end of a line.
        return _NOT_ASCII.sub(lambda match: json.dumps(match.group())[1:-1], text)


# In a mailed link, the part after these prefixes is a secret, except on our own pages below.
_SECRET_IN_PATH = re.compile(
    r"^(/+join/|/+accounts/confirm-email/|/+accounts/password/reset/key/)"
    r"(?!(?:accept|decline|log-out|done)/?$)[^/]+(/?)"
)


def path_for_log(request: HttpRequest) -> str:
    """Return the path without the secret of a mailed link."""
    # Applies to unresolved paths too: without its trailing slash, a link only redirects.
    path = request.path
    if found := _SECRET_IN_PATH.match(path):
        path = f"{found[1]}…{found[2]}{path[found.end() :]}"
    captured = request.resolver_match.kwargs if request.resolver_match else {}
    for name in ("key", "secret"):
        if value := captured.get(name):
            path = path.replace(str(value), "…")
    return path

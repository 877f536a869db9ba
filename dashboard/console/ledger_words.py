"""The reasons that the gateway itself writes into the ledger, in the language of the reader."""

from __future__ import annotations

import re

from django.utils.translation import gettext, gettext_noop

# Each as the gateway writes it. What a person wrote stays as it is.
_REASONS = (
    gettext_noop("Reply by %(model)s"),
    gettext_noop("Draft reply by %(model)s"),
    gettext_noop("Credit request approved"),
    gettext_noop("Redemption code %(code)s"),
    gettext_noop("Monthly credits of the plan %(plan)s"),
    gettext_noop("Grant %(entry)s of %(category)s has ended"),
    gettext_noop("Account deleted"),
)
_PATTERNS = [
    (reason, re.compile(re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(reason)), re.DOTALL))
    for reason in _REASONS
]


def words_of_reason(stored: str) -> str:
    """Return a reason in the active language if the gateway wrote it, or else as it is stored."""
    for reason, pattern in _PATTERNS:
        found = pattern.fullmatch(stored)
        if found:
            return gettext(reason) % found.groupdict()
    return stored

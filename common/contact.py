"""How people reach the operator: an e-mail address or a web page, from OPERATOR_CONTACT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

# Only what needs no escaping in a `mailto:` link.
_MAIL = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_MAIL_MAX = 254
_WEB = re.compile(r"https?://[!-~]{1,500}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Contact:
    """A valid OPERATOR_CONTACT. `text` is the address as people read it."""

    text: str
    is_mail: bool

    @property
    def href(self) -> str:
        return f"mailto:{self.text}" if self.is_mail else self.text


def parse_contact(text: str) -> Contact | None:
    """Return the contact that a text names, or None if it is neither kind of address."""
    if _MAIL.fullmatch(text) and len(text) <= _MAIL_MAX:
        return Contact(text, is_mail=True)
    return Contact(text, is_mail=False) if _is_web_address(text) else None


def _is_web_address(text: str) -> bool:
    if not _WEB.fullmatch(text) or any(character in text for character in "\"'<>\\`"):
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    # Everybody can read it, so it must not contain a user and password.
    return bool(parts.hostname) and "@" not in parts.netloc

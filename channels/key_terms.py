"""The terms that a key's owner sets: its name, its end, and where and for what it works."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from common.pages.numbers import local_number

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_NAME = 80
MOST_RANGES = 50
_IPV4_IN_IPV6 = ipaddress.IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """The terms of a key. Empty ranges allow every address, and empty models every model."""

    name: str = ""
    expires_at: datetime | None = None
    allowed_addresses: Sequence[str] = field(default_factory=tuple)
    allowed_models: Sequence[str] = field(default_factory=tuple)

    def columns(self) -> dict[str, str | datetime | None]:
        """Return the terms as the columns of ApiKey."""
        return {
            "name": self.name,
            "expires_at": self.expires_at,
            "allowed_addresses": "\n".join(self.allowed_addresses),
            "allowed_models": "\n".join(self.allowed_models),
        }

    def digest(self) -> str:
        """Return a digest. A form carries it to notice if somebody else has saved meanwhile."""
        text = json.dumps(self.columns(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


# Every address, every model, no end.
NO_TERMS = KeyTerms()


def read_lines(text: str) -> list[str]:
    """Return the lines of a stored column."""
    return text.split("\n") if text else []


def clean_ranges(entries: Iterable[str]) -> list[str]:
    """Return address ranges in their canonical spelling, each once.

    Raises ValidationError with a sentence for each entry that is not one.
    """
    ranges: dict[str, None] = {}
    errors = []
    for entry in entries:
        try:
            ranges[str(_parse_range(entry))] = None
        except ValueError as error:
            errors.append(str(error))
    if len(ranges) > MOST_RANGES:
        counted = {"most": MOST_RANGES, "count": local_number(len(ranges))}
        errors.append(_("Enter at most %(most)s ranges, not %(count)s.") % counted)
    if errors:
        raise ValidationError(errors[:5])
    return list(ranges)


def _parse_range(entry: str) -> Network:
    """Return the range. Raises ValueError with a sentence that says how to write it."""
    shown = entry if len(entry) <= 60 else f"{entry[:60]}…"
    try:
        found = ipaddress.ip_network(entry, strict=False)
        is_whole = ipaddress.ip_address(entry.partition("/")[0]) == found.network_address
    except ValueError:
        text = _(
            "“%(entry)s” is not an address range. Write it like 203.0.113.0/24 or 2001:db8::/32."
        )
        raise ValueError(text % {"entry": shown}) from None
    named = {"entry": shown, "range": found}
    if "%" in entry:
        text = _("Leave out the zone of “%(entry)s”, which is all from the %% on.")
        raise ValueError(text % named)
    if not is_whole:
        text = _("“%(entry)s” begins inside a range. Write %(range)s for the whole range.")
        raise ValueError(text % named)
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_IPV4_IN_IPV6):
        text = _("Write “%(entry)s” as a range of IPv4, like 203.0.113.0/24.")
        raise ValueError(text % named)
    return found


@lru_cache(maxsize=1_000)
def read_ranges(text: str) -> tuple[Network, ...]:
    """Return the ranges of a stored column. A damaged line allows nothing.

    Cached, because SQLite has no cache of callers, which on PostgreSQL keeps the parsed ranges.
    """
    ranges: list[Network] = []
    for line in read_lines(text):
        try:
            ranges.append(ipaddress.ip_network(line))
        except ValueError:
            continue
    return tuple(ranges)


def contains(ranges: Iterable[Network], address: str) -> bool:
    """Return whether one of the ranges contains the address. '' is in none."""
    if not address:
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in ranges)

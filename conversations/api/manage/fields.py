"""Reads the members of a body, and notes what is wrong with each. Unknown members are ignored."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from channels import time_zones
from common.errors import InvalidRequest
from common.money import InvalidAmount, parse_credits
from conversations.api.chat import check_text
from conversations.api.parameters import show_name

MOST_ENTRIES = 100
LONGEST_ENTRY = 200
# The largest whole number that every database stores.
LARGEST = 2_147_483_647


class Fields:
    """The members of a JSON object. null is the same as leaving a member out."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.wrong: dict[str, str] = {}

    def has(self, name: str) -> bool:
        return self.data.get(name) is not None

    def refuse_wrong(self) -> None:
        """Raise InvalidRequest if anything is wrong."""
        if self.wrong:
            raise InvalidRequest(fields=self.wrong)

    def text(self, name: str, *, limit: int, is_required: bool = False) -> str:
        return check_text(self.data, name, self.wrong, limit=limit, required=is_required)

    def choice(self, name: str, options: list[str], default: str) -> str:
        value = self.data.get(name)
        if value is not None and value not in options:
            self.wrong[name] = f"Must be {' or '.join(options)}."
            return default
        return value or default

    def integer(self, name: str, *, least: int, most: int, default: int = 0) -> int:
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.wrong[name] = f"Must be a whole number from {least:,} to {most:,}."
            return default
        return value

    def decimal(self, name: str) -> Decimal | None:
        """Return a number as it was written, or None."""
        value = self.data.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self.wrong[name] = "Must be a number."
            return None
        return None if value is None else Decimal(str(value))

    def time_zone(self, name: str) -> str | None:
        """Return the name of a time zone as IANA writes it, or None."""
        if not self.has(name):
            return None
        zone = time_zones.find_name(self.text(name, limit=time_zones.LONGEST_NAME))
        if zone is None:
            self.wrong.setdefault(name, time_zones.NO_SUCH_ZONE)
        return zone

    def boolean(self, name: str) -> bool:
        value = self.data.get(name)
        if value is not None and not isinstance(value, bool):
            self.wrong[name] = "Must be true or false."
        return bool(value)

    def credits(self, name: str) -> int | None:
        """Return an amount of credits as whole micro-credits, or None."""
        value = self.data.get(name)
        if value is None:
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise InvalidAmount
            amount = parse_credits(value)
            if amount < 0:
                raise InvalidAmount
        except InvalidAmount:
            self.wrong[name] = (
                'Must be credits as a string such as "12.5", with at most six decimals, '
                "or null for no limit."
            )
            return None
        return amount

    def list_of_texts(
        self, name: str, *, limit: int = LONGEST_ENTRY, most: int = MOST_ENTRIES
    ) -> list[str]:
        """Return a list of at most so many non-empty texts."""
        value = self.data.get(name)
        if value is None:
            return []
        is_list = isinstance(value, list) and len(value) <= most
        if not is_list or not all(isinstance(one, str) and one for one in value):
            self.wrong[name] = f"Must be a list of at most {most} strings."
            return []
        return [check_text({name: one}, name, self.wrong, limit=limit) for one in value]

    def moment(self, name: str) -> datetime | None:
        """Return a time, or None for '' and if there is none."""
        value = self.data.get(name)
        if value is None or value == "":
            return None
        try:
            found = datetime.fromisoformat(value)
            if found.tzinfo is not None and 2000 <= found.year < 3000:
                return found
        except (TypeError, ValueError):
            pass
        self.wrong[name] = 'Must be a time with its offset, such as "2030-01-31T23:59:59Z".'
        return None

    def texts(self, name: str, *, keys: tuple[str, ...], limit: int) -> dict[str, str]:
        """Return an object of texts under known keys."""
        value = self.data.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong[name] = "Must be an object."
            return {}
        found: dict[str, str] = {}
        for key in value:
            path = f"{name}.{show_name(key)}"
            if key not in keys:
                self.wrong[path] = f"There is no such cause. The causes are: {', '.join(keys)}."
            elif text := check_text(value, key, self.wrong, limit=limit, path=path):
                found[key] = text
        return found

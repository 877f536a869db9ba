"""A snippet before address, key, and model are filled in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A program with «BASE_URL», «API_KEY», and «MODEL» as placeholders."""

    id: str
    title: str
    file_name: str
    note: str
    text: str

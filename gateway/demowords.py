"""The words of the demo data."""

from __future__ import annotations

from random import Random
from zlib import crc32

_FIRST = (
    "Alder",
    "Birch",
    "Cedar",
    "Dune",
    "Ember",
    "Fjord",
    "Grove",
    "Harbour",
    "Iris",
    "Juniper",
)
_SECOND = (
    "Bikes",
    "Books",
    "Coffee",
    "Dental",
    "Garden",
    "Hotel",
    "Optics",
    "Shoes",
    "Toys",
    "Yoga",
)
_PATHS = ("/", "/pricing", "/delivery", "/returns", "/opening-hours", "/contact", "/sale", "/faq")
_QUESTIONS = (
    "Do you deliver on Saturdays?", "Where is my order?", "Can I change my booking to Friday?",
    "How do I return a pair of shoes that does not fit?", "Is there parking near the shop?",
    "Hello!", "What does the yearly plan cost, and can I cancel it?", "Do you have this in blue?",
    "I was charged twice for the same order and would like the second amount back, please.",
    "Welche Öffnungszeiten habt ihr an Feiertagen?", "¿Aceptan tarjetas?",
)  # fmt: skip
_REPLIES = (
    "Yes, we deliver **Monday to Saturday**, between 8:00 and 18:00.",
    "You can return anything within 30 days:\n\n1. Open *My orders*.\n2. Choose the item.\n"
    "3. Print the label.\n\nThe money is back within five working days.",
    "The yearly plan costs less than ten monthly ones: [prices](https://shop.example/pricing).",
    "I'm sorry about that! Please send us the order number, and we shall look into it at once.",
    "| Day | Hours |\n|---|---|\n| Mon-Fri | 9-18 |\n| Sat | 10-16 |\n\nWe are closed on Sundays.",
    "Sí, aceptamos todas las tarjetas habituales.",
    "Yes, in blue, green and grey. Sizes run a little small, so many customers take one size up.",
)
FAILURES = (
    ("provider_error", "timeout"), ("provider_error", "status_500"),
    ("provider_error", "status_429"), ("session_busy", ""), ("daily_quota_reached", ""),
    ("overloaded", ""),
)  # fmt: skip
RATINGS = ((1, ""), (1, "Good answer."), (-1, "Wrong opening hours."), (-1, ""))


def company(key: str) -> str:
    """Return a name that is the same for the same key."""
    number = crc32(key.encode())
    return f"{_FIRST[number % 10]} {_SECOND[number // 10 % 10]}"


def prompt(version: int, name: str) -> str:
    """Return a system prompt as it was in a version."""
    rules = ("Answer briefly.", "Be friendly.", "Never promise a refund.")[:version]
    return " ".join([f"You are the assistant of {name}.", *rules])


def path(rng: Random) -> str:
    return rng.choice(_PATHS)


def question(rng: Random) -> str:
    return rng.choice(_QUESTIONS)


def reply(rng: Random) -> str:
    return rng.choice(_REPLIES)

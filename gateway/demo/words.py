"""The texts of the demo data."""

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
# Questions of visitors, with their answers.
_TALKS = (
    ("Do you deliver on Saturdays?",
     "Yes, we deliver **Monday to Saturday**, between 8:00 and 18:00."),
    ("Where is my order?",
     "Please send me the order number. You find it in the subject of our e-mail, after *No.*"),
    ("Can I change my booking to Friday?",
     "Yes, until the evening before: open *My bookings*, choose *Change*, and pick Friday."),
    ("How do I return a pair of shoes that does not fit?",
     "You can return anything within 30 days:\n\n1. Open *My orders*.\n2. Choose the item.\n"
     "3. Print the label.\n\nYou get your money back within five working days."),
    ("Is there parking near the shop?",
     "Yes, behind the shop. The first hour is free for customers."),
    ("Hello!", "Hello! How can I help you today?"),
    ("What does the yearly plan cost, and can I cancel it?",
     "It costs less than ten monthly payments: [prices](https://shop.example/pricing). You can "
     "cancel it at the end of each year."),
    ("Do you have this in blue?",
     "Yes, in blue, green and grey. Sizes run a little small, so many customers take one size up."),
    ("I was charged twice for the same order and would like the second amount back, please.",
     "I'm sorry about that! Please send me the order number, and we will look into it at once."),
    ("When are you open?",
     "| Day | Hours |\n|---|---|\n| Mon-Fri | 9-18 |\n| Sat | 10-16 |\n\nClosed on Sundays."),
    ("Welche Öffnungszeiten habt ihr an Feiertagen?",
     "An Feiertagen haben wir geschlossen, am Tag davor bis 14 Uhr geöffnet."),
    ("¿Aceptan tarjetas?", "Sí, aceptamos todas las tarjetas habituales."),
)  # fmt: skip
FAILURES = (
    ("provider_error", "timeout"), ("provider_error", "status_500"),
    ("provider_error", "status_429"), ("session_busy", ""), ("daily_quota_reached", ""),
    ("overloaded", ""),
)  # fmt: skip
RATINGS = ((1, ""), (1, "Good answer."), (-1, "Wrong opening hours."), (-1, ""))


def company(key: str) -> str:
    """Return a name that is always the same for the same key."""
    number = crc32(key.encode())
    return f"{_FIRST[number % 10]} {_SECOND[number // 10 % 10]}"


def shop(index: int) -> str:
    """Return the name of a channel. The first hundred differ, the rest are numbered."""
    number = index * 37 % 100  # neighbours share neither word
    name = f"{_FIRST[number % 10]} {_SECOND[number // 10]}"
    return f"{name} {index // 100 + 1}" if index >= 100 else name


def prompt(version: int, name: str) -> str:
    """Return the system prompt of a version."""
    rules = ("Answer briefly.", "Be friendly.", "Never promise a refund.")[:version]
    return " ".join([f"You are the assistant of {name}.", *rules])


def path(rng: Random) -> str:
    return rng.choice(_PATHS)


def talk(rng: Random) -> tuple[str, str]:
    """Return a question and its answer."""
    return rng.choice(_TALKS)

"""Compares text that people type, and fits it into one line."""

from __future__ import annotations

import unicodedata

LONGEST_COMPARED = 500


def normalize_question(text: str) -> str:
    """Return a question without case, accents, punctuation, and extra white space.

    “¿Qué horario tienen?” and “que horario tienen” become the same.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(
        character if character.isalnum() else " "
        for character in decomposed
        if not unicodedata.combining(character)
    )
    return " ".join(kept.split())[:LONGEST_COMPARED]


def one_line(text: str) -> str:
    """Return a text with single spaces instead of line ends, as an e-mail's subject needs it.

    Names may have several lines, and a subject with one of them fails with BadHeaderError.
    """
    return " ".join(text.split())

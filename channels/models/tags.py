"""Tags of channels as text with commas between them: read, written, and checked."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from django.core.exceptions import ValidationError
from django.utils.translation import gettext

from common.pages.numbers import local_number

MOST_TAGS = 10
LONGEST_TAG = 40
# Ten tags of full length, with what stands between them.
LONGEST_TAGS = MOST_TAGS * (LONGEST_TAG + 2)
_BETWEEN = ", "
# Control characters, and the ends of lines and paragraphs.
_REFUSED = {"Cc", "Cs", "Zl", "Zp"}


def read_tags(text: str) -> list[str]:
    """Return the tags of a text, trimmed. Of equal ones, whatever their case, the first stays."""
    found: dict[str, str] = {}
    for part in text.split(","):
        if tag := part.strip():
            found.setdefault(fold_tag(tag), tag)
    return list(found.values())


def write_tags(tags: Iterable[str]) -> str:
    """Return tags as a channel stores them."""
    return _BETWEEN.join(tags)


def fold_tag(tag: str) -> str:
    """Return what equal tags have in common, whatever their case."""
    return unicodedata.normalize("NFC", tag).casefold()


def check_tags(text: str) -> None:
    """Raise ValidationError unless the text has at most MOST_TAGS tags that can be stored."""
    tags = read_tags(text)
    if len(tags) > MOST_TAGS:
        raise ValidationError(
            gettext("Enter at most %(most)s tags; these are %(count)s.")
            % {"most": MOST_TAGS, "count": len(tags)}
        )
    for tag in tags:
        if len(tag) > LONGEST_TAG:
            raise ValidationError(
                gettext("A tag has at most %(most)s characters; “%(tag)s…” has %(count)s.")
                % {"most": LONGEST_TAG, "tag": tag[:20], "count": local_number(len(tag))}
            )
        if any(unicodedata.category(character) in _REFUSED for character in tag):
            raise ValidationError(gettext("Remove the control characters from the tags."))

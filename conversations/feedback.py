"""What a team thinks of a reply: a thumb and a note, one of each, by whoever spoke last."""

from __future__ import annotations

from channels.models import User
from conversations.models import Feedback, Message


def rate_reply(*, message: Message, rating: int, note: str, author: User) -> Feedback | None:
    """Keep a thumb and a note in place of the earlier ones; with neither, keep none."""
    if rating == Feedback.Rating.NONE and not note:
        Feedback.objects.filter(message=message).delete()
        return None
    kept, _ = Feedback.objects.update_or_create(
        message=message, defaults={"rating": rating, "note": note, "author": author}
    )
    return kept

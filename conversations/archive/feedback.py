"""A team's feedback on a reply: one rating and one note, by the member who saved them last."""

from __future__ import annotations

from channels.models import User
from conversations.models import Feedback, Message


def rate_reply(*, message: Message, rating: int, note: str, author: User) -> Feedback | None:
    """Replace a reply's rating and note. If both are empty, delete the feedback and return None."""
    if rating == Feedback.Rating.NONE and not note:
        Feedback.objects.filter(message=message).delete()
        return None
    kept, _ = Feedback.objects.update_or_create(
        message=message, defaults={"rating": rating, "note": note, "author": author}
    )
    return kept

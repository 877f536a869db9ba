"""A team's feedback on a reply: one rating and one note, by the member who saved them last."""

from __future__ import annotations

from django.db import transaction

from channels.models import User
from conversations.models import Feedback, Message


@transaction.atomic
def rate_reply(
    *, message: Message, rating: int | None, note: str | None, author: User
) -> Feedback | None:
    """Change a reply's rating, note or both. None keeps what is stored.

    If both are empty afterwards, deletes the feedback and returns None.
    """
    given = {"rating": rating, "note": note}
    changes = {name: value for name, value in given.items() if value is not None}
    kept, _ = Feedback.objects.update_or_create(
        message=message, defaults={**changes, "author": author}
    )
    if kept.rating == Feedback.Rating.NONE and not kept.note:
        kept.delete()
        return None
    return kept

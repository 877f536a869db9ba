"""Visitors' latest questions, to be asked of a draft."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db.models import Exists, OuterRef

from channels.models import Channel
from conversations.chat.turns import PastTurn
from conversations.models import ChatSession, Message

# How many earlier turns go with a question.
MOST_EARLIER_TURNS = 20
# So many messages are read for each question wanted, because visitors repeat each other.
READ_PER_QUESTION = 5


@dataclass(frozen=True, slots=True)
class Question:
    """A visitor's message, the reply it got, and the turns before it, oldest first."""

    asked: Message
    reply: str
    earlier: list[PastTurn]


def list_latest(*, channel: Channel, most: int, not_from: str) -> list[Message]:
    """Return visitors' latest messages with live keys whose text is kept, newest first.

    Leaves out sessions whose id begins with `not_from`, and what a later message asks in the same
    words. Returns fewer than `most` if the latest `READ_PER_QUESTION * most` messages have no more.
    """
    read = READ_PER_QUESTION * most
    has_text = Message.objects.filter(session=OuterRef("pk"), erased_at=None)
    sessions = ChatSession.objects.filter(
        Exists(has_text), channel=channel, is_test=False, message_count__gt=0
    ).exclude(session_id__startswith=not_from)
    # The latest n messages are all in the n sessions with the latest messages.
    latest = sessions.order_by("-last_message_at", "-id")
    pks = list(latest.values_list("id", flat=True)[:read])
    asked = Message.objects.filter(
        session_id__in=pks, role=Message.Role.USER, erased_at=None
    ).order_by("-created_at", "-id")
    by_words: dict[str, Message] = {}
    for message in asked[:read]:
        by_words.setdefault(" ".join(message.content.casefold().split()), message)
    return list(by_words.values())[:most]


def find(*, channel: Channel, message_id: uuid.UUID) -> Question | None:
    """Return a visitor's question to this channel, or None if there is none whose text is kept."""
    asked = Message.objects.filter(
        id=message_id,
        channel=channel,
        is_test=False,
        role=Message.Role.USER,
        session__isnull=False,
        erased_at=None,
    ).first()
    return describe(asked) if asked else None


def describe(asked: Message) -> Question:
    """Return a visitor's message with its reply and the turns before it."""
    position = asked.position
    said = dict(
        Message.objects.filter(
            session_id=asked.session_id,
            position__gte=position - 2 * MOST_EARLIER_TURNS,
            position__lte=position + 1,
            erased_at=None,
        ).values_list("position", "content")
    )
    earlier = [
        PastTurn(said[place], said[place + 1])
        for place in range(max(0, position - 2 * MOST_EARLIER_TURNS), position, 2)
        if place in said and place + 1 in said
    ]
    return Question(asked, said.get(position + 1, ""), earlier)

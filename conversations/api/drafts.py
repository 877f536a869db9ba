"""Answers a message to a draft with the events of POST /api/chat."""

from __future__ import annotations

from conversations.api.chat import AskedChat
from conversations.chat.drafts import Drafted


class AskedDraft(Drafted, AskedChat):
    """A message to a draft, and how its answer looks."""

    __slots__ = ()

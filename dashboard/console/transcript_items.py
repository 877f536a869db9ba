"""What a transcript shows of each message, for Conversations and the playground."""

from __future__ import annotations

from typing import Any

from common.pages.numbers import local_credits
from conversations.archive import markdown
from conversations.models import FailedRequest, Message
from conversations.usage import outcomes
from dashboard.console.navigation import console_url


def describe(item: Message | FailedRequest) -> dict[str, Any]:
    if isinstance(item, FailedRequest):
        return {"kind": "failure", "failure": item}
    if item.role == Message.Role.USER:
        return {"kind": "user", "message": item}
    return {
        "kind": "reply",
        "message": item,
        "html": markdown.render(item.content),
        "credits": local_credits(item.charged_microcredits),
        "is_own_answer": outcomes.of_reply(item.provider_name) == outcomes.SAVED_REPLY,
        "prompt_url": console_url("prompt_version", item.channel_id, item.prompt_version)
        if item.prompt_version
        else "",
        "feedback": getattr(item, "feedback", None),
    }

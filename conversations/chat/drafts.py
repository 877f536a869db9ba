"""A message to a draft: an unpublished prompt, or another model.

Charged like a chat, but kept apart: it has no session, is not in visitors' figures, and stores no
text. DraftReply records what it cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils import timezone

from channels import routes
from channels.callers import Caller
from conversations.chat import calls
from conversations.chat.calls import HeldCall
from conversations.chat.message import Incoming, Page, build_prompt
from conversations.chat.prompt import Prompt
from conversations.chat.turns import PastTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted(Incoming):
    """A message to the draft that its caller describes, after these turns, oldest first."""

    earlier: Sequence[PastTurn] = ()

    def admit(self, caller: Caller, request_id: str) -> HeldCall:
        """Count the message in the daily quota, and hold its highest price.

        Raises DailyQuotaReached, SpendCapReached, and CreditsExhausted.
        """
        return calls.hold(
            caller,
            build(caller, self),
            routes.list_routes(caller, simulate=self.simulate),
            is_stream=self.is_stream,
            request_id=request_id,
            now=timezone.now(),
        )


def build(caller: Caller, drafted: Drafted) -> Prompt:
    """Return the prompt, as a visitor's message in a session would get it."""
    has_page = drafted.page_url or drafted.page_title
    return build_prompt(
        model=caller.model,
        system_prompt=caller.system_prompt,
        page=Page(drafted.page_url, drafted.page_title) if has_page else None,
        latest_turns=reversed(drafted.earlier),
        message=drafted.message,
        options=caller.answer_options,
        longest_answer=caller.max_answer_tokens,
    )


def highest_price(caller: Caller, drafted: Drafted) -> int:
    """Return the highest price of a reply, in micro-credits."""
    return 0 if caller.is_test else calls.highest_price(build(caller, drafted))

"""Sessions and their messages, what else a request leaves, and its sums."""

from conversations.models.requests import (
    DraftReply,
    FailedRequest,
    IdempotencyRecord,
    ManagementRecord,
    ReplayedRequest,
)
from conversations.models.sums import ProviderDay, RollupProgress, UsageRollup
from conversations.models.talks import ChatSession, Feedback, Message, WaitingTurn

__all__ = [
    "ChatSession",
    "DraftReply",
    "FailedRequest",
    "Feedback",
    "IdempotencyRecord",
    "ManagementRecord",
    "Message",
    "ProviderDay",
    "ReplayedRequest",
    "RollupProgress",
    "UsageRollup",
    "WaitingTurn",
]

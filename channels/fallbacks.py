"""The errors for which an owner may write a reply that is shown to the visitor.

These are the codes that a caller with a valid key can get under /api (docs/api.md). For errors
about the key itself the channel is unknown, so they have no reply.
"""

from __future__ import annotations

LONGEST_REPLY = 2_000

# Code, title, when it occurs.
CAUSES = (
    ("provider_error", "The AI did not answer", "Every provider failed or broke off."),
    ("content_filtered", "The AI declined to answer", "A provider's filter stopped the message."),
    ("daily_quota_reached", "Today's messages are used up", "Until the day of the quota ends."),
    ("spend_cap_reached", "A spend cap is reached", "Until its day or month ends."),
    ("credits_exhausted", "Credits are used up", "Until someone adds credits."),
    ("rate_limited", "Too many messages in a minute", "For up to a minute."),
    ("site_disabled", "The channel is switched off", "Also while the account is disabled."),
    ("not_allowed", "The key may not be used", "Its address ranges or models exclude the request."),
    ("session_busy", "Earlier messages are still being answered", "Too many at once."),
    ("overloaded", "The gateway is overloaded", "Usually for a few seconds."),
    ("internal_error", "A fault of the gateway", "Rare. The operator's log has details."),
    ("invalid_request", "The message is not valid", "Empty, or above 2,000 characters."),
    ("request_in_progress", "A repeated request is still running", "Idempotency-Key only."),
    ("idempotency_key_reused", "An Idempotency-Key was used twice", "A mistake of the backend."),
    ("unsupported_media_type", "The request was not JSON", "A mistake of the backend."),
)
CODES = tuple(code for code, _, _ in CAUSES)

"""The errors for which an owner may write a reply that is shown to the visitor.

These are the codes that a caller with a valid key can get under /api (docs/api.md). For errors
about the key itself the channel is unknown, so they have no reply.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

LONGEST_REPLY = 2_000

# Code, title, when it occurs.
CAUSES = (
    ("provider_error", _("The AI did not answer"), _("Every provider failed or broke off.")),
    (
        "content_filtered",
        _("The AI declined to answer"),
        _("A provider's filter stopped the message."),
    ),
    (
        "daily_quota_reached",
        _("Today's messages are used up"),
        _("Until the day of the quota ends."),
    ),
    ("spend_cap_reached", _("A spend cap is reached"), _("Until its day or month ends.")),
    ("credits_exhausted", _("Credits are used up"), _("Until someone adds credits.")),
    ("rate_limited", _("Too many messages in a minute"), _("For up to a minute.")),
    ("site_disabled", _("The channel is switched off"), _("Also while the account is disabled.")),
    (
        "not_allowed",
        _("The key may not be used"),
        _("Its address ranges or models exclude the request."),
    ),
    ("session_busy", _("Earlier messages are still being answered"), _("Too many at once.")),
    ("overloaded", _("The gateway is overloaded"), _("Usually for a few seconds.")),
    ("internal_error", _("A fault of the gateway"), _("Rare. The operator's log has details.")),
    ("invalid_request", _("The message is not valid"), _("Empty, or above 2,000 characters.")),
    ("request_in_progress", _("A repeated request is still running"), _("Idempotency-Key only.")),
    (
        "idempotency_key_reused",
        _("An Idempotency-Key was used twice"),
        _("A mistake of the backend."),
    ),
    ("unsupported_media_type", _("The request was not JSON"), _("A mistake of the backend.")),
)
CODES = tuple(cause[0] for cause in CAUSES)

"""cURL."""

from __future__ import annotations

from django.utils.translation import gettext_noop

from dashboard.reference.snippets.form import Form

CURL = (
    Form(
        "chat",
        gettext_noop("Ask"),
        "chat.sh",
        gettext_noop(
            "One message, one answer. Messages with the same session_id form one conversation."
        ),
        r"""
curl -sS «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -d '{
    "message": "Hello! What can you do?",
    "session_id": "visitor-1",
    "metadata": {"url": "https://example.com/pricing", "title": "Pricing"}
  }'
""",
    ),
    Form(
        "stream",
        gettext_noop("Stream the answer"),
        "stream.sh",
        gettext_noop("The answer as server-sent events: delta events, then one done or one error."),
        r"""
curl -sSN «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -d '{"message": "Tell me more.", "session_id": "visitor-1", "stream": true}'
""",
    ),
    Form(
        "retry",
        gettext_noop("Retry safely"),
        "retry.sh",
        gettext_noop(
            "The same Idempotency-Key and body get the same answer for 24 hours, charged once."
        ),
        r"""
# --retry tries again after 408, 429, 500, 502, 503 and 504, and waits for Retry-After.
curl -sS --retry 3 --max-time 90 «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -H 'Idempotency-Key: visitor-1-message-3' \
  -d '{"message": "And what does it cost?", "session_id": "visitor-1"}'
""",
    ),
    Form(
        "history",
        gettext_noop("Read and erase a conversation"),
        "history.sh",
        gettext_noop("Costs nothing. Erased text is gone for good."),
        r"""
# Everything said in this session, oldest first.
curl -sS '«BASE_URL»/api/history?session_id=visitor-1' -H 'X-API-Key: «API_KEY»'

# Erase it; answers 204, also where there was nothing.
curl -sS -X DELETE '«BASE_URL»/api/history?session_id=visitor-1' -H 'X-API-Key: «API_KEY»'
""",
    ),
    Form(
        "errors",
        gettext_noop("See an error"),
        "errors.sh",
        gettext_noop(
            "With a test key, X-Simulate returns any error. With a live key, it is ignored."
        ),
        r"""
# -i shows the status, Retry-After and X-Request-Id before the body.
curl -sSi «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -H 'X-Simulate: rate_limited' \
  -d '{"message": "Hello!", "session_id": "visitor-1"}'
""",
    ),
)

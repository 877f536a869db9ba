"""cURL."""

from __future__ import annotations

from dashboard.reference.snippets.form import Form

CURL = (
    Form(
        "chat",
        "Ask",
        "chat.sh",
        "One message, one answer. All messages of one session_id are one conversation.",
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
        "Ask, word by word",
        "stream.sh",
        "The answer as server-sent events: delta events, then one done or one error.",
        r"""
curl -sSN «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -d '{"message": "Tell me more.", "session_id": "visitor-1", "stream": true}'
""",
    ),
    Form(
        "retry",
        "Ask safely again",
        "retry.sh",
        "The same Idempotency-Key and body within 24 hours get the same answer, paid once.",
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
        "Read and erase a conversation",
        "history.sh",
        "Costs nothing. What is erased is gone for good.",
        r"""
# Everything said in this session, oldest first.
curl -sS '«BASE_URL»/api/history?session_id=visitor-1' -H 'X-API-Key: «API_KEY»'

# Erase it; answers 204, also where there was nothing.
curl -sS -X DELETE '«BASE_URL»/api/history?session_id=visitor-1' -H 'X-API-Key: «API_KEY»'
""",
    ),
    Form(
        "errors",
        "See an error",
        "errors.sh",
        "With a test key, X-Simulate makes any error happen; a live key's is ignored.",
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

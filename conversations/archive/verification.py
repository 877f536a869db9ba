"""Verifies that stored messages and charges agree."""

from __future__ import annotations

from collections.abc import Iterator

from billing.verification import query_differences

_DIFFERENCES = {
    "a reply's charge differs from the ledger's": """
        SELECT m.id, m.charged_microcredits, COALESCE(e.amount_microcredits, 0)
          FROM conversations_message m
          LEFT JOIN billing_ledgerentry e ON e.hold_id = m.id
         WHERE m.role = 'assistant'
           AND m.charged_microcredits <> COALESCE(e.amount_microcredits, 0)
    """,
    "a charge has no reply": """
        SELECT e.id, e.amount_microcredits, 0
          FROM billing_ledgerentry e LEFT JOIN conversations_message m ON m.id = e.hold_id
          LEFT JOIN conversations_draftreply d ON d.id = e.hold_id
         WHERE e.kind = 'charge' AND m.id IS NULL AND d.id IS NULL
    """,
    "a draft reply's charge differs from the ledger's": """
        SELECT d.id, d.charged_microcredits, COALESCE(e.amount_microcredits, 0)
          FROM conversations_draftreply d
          LEFT JOIN billing_ledgerentry e ON e.hold_id = d.id
         WHERE d.charged_microcredits <> COALESCE(e.amount_microcredits, 0)
    """,
    "a session's count differs from its messages": """
        SELECT s.id, s.message_count, COUNT(m.id)
          FROM conversations_chatsession s
          LEFT JOIN conversations_message m ON m.session_id = s.id
         GROUP BY s.id, s.message_count
        HAVING s.message_count <> COUNT(m.id) OR s.message_count <> COALESCE(MAX(m.position) + 1, 0)
    """,
    "a message is not where its turn has it": """
        SELECT m.id, m.role, m.position FROM conversations_message m
          LEFT JOIN conversations_chatsession s ON s.id = m.session_id
         WHERE m.session_id IS NOT NULL
           AND (s.id IS NULL OR (m.role = 'assistant') <> (m.position % 2 = 1)
                OR m.channel_id <> s.channel_id OR m.is_test <> s.is_test)
    """,
    "a reply without a session is not its hold's": """
        SELECT m.id, m.channel_id, h.channel_id FROM conversations_message m
          LEFT JOIN billing_hold h ON h.id = m.id
         WHERE m.session_id IS NULL
           AND (h.id IS NULL OR m.channel_id <> h.channel_id OR m.is_test <> h.is_test)
    """,
}


def find_differences() -> Iterator[str]:
    """Yield a sentence for each difference between messages and ledger."""
    for words, statement in _DIFFERENCES.items():
        yield from query_differences(words, statement)

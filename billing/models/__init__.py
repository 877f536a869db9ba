"""Credits as whole micro-credits, and the counters of limits.

The database enforces the most important rules: a balance is never negative and never below what is
held, and ledger entries are neither changed nor deleted (triggers of migration 0002). Everything
else is in settlement.py.
"""

from billing.models.additions import CreditRequest, RedemptionCode
from billing.models.ledger import (
    MAX_NOTE,
    MAX_REASON,
    MAX_REFERENCE,
    Book,
    CreditAccount,
    CreditGrant,
    LedgerEntry,
    VerificationRun,
)
from billing.models.limits import AccountKeyWindow, DailyUsage, Hold, RateWindow, SpendCap

__all__ = [
    "MAX_NOTE",
    "MAX_REASON",
    "MAX_REFERENCE",
    "AccountKeyWindow",
    "Book",
    "CreditAccount",
    "CreditGrant",
    "CreditRequest",
    "DailyUsage",
    "Hold",
    "LedgerEntry",
    "RateWindow",
    "RedemptionCode",
    "SpendCap",
    "VerificationRun",
]

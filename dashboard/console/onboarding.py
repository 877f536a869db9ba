"""The checklist of a new account. It checks off its own steps and disappears when all are done."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from channels import audit
from channels.models import AuditEntry
from conversations.usage.activity import has_any_reply
from dashboard.console.access import Member

DISMISSED = "checklist.dismissed"
_KEY_SEEN = ("key.copied", "key.revealed")


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    hint: str
    is_done: bool


def find_checklist(member: Member, *, channel_count: int) -> list[Step] | None:
    """Return the steps, or None if all are done or somebody has dismissed them."""
    entries = AuditEntry.objects.filter(account=member.account, action__in=(*_KEY_SEEN, DISMISSED))
    actions = set(entries.order_by().values_list("action", flat=True).distinct())
    if DISMISSED in actions:
        return None
    is_answered = bool(channel_count) and has_any_reply(account_id=member.account.id)
    steps = [
        Step(
            _("Create a channel"),
            _("One for each site or app that calls the gateway."),
            bool(channel_count),
        ),
        Step(
            _("Copy its key"),
            _("Put it into your backend, never into a web page."),
            # Whoever copied the first command has the key in it.
            bool(actions) or is_answered,
        ),
        Step(
            _("Make the first call"),
            _("The channel's “Connect” page has code ready to paste."),
            is_answered,
        ),
    ]
    return None if all(step.is_done for step in steps) else steps


def dismiss(member: Member) -> None:
    """Dismiss the checklist. Doing it twice records it once."""
    account_id = member.account.id
    if not AuditEntry.objects.filter(account_id=account_id, action=DISMISSED).exists():
        audit.record(DISMISSED, actor=member.actor, account_id=account_id)

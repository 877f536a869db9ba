"""The checklist of a new account. It checks off its own steps and disappears when all are done."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.utils.translation import gettext as _

from channels import audit
from channels.models import AuditEntry, Channel
from conversations.usage.activity import has_any_reply
from dashboard.console.access import Member
from dashboard.console.navigation import console_url

DISMISSED = "checklist.dismissed"
_KEY_SEEN = ("key.copied", "key.revealed")


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    hint: str
    is_done: bool
    # The page where the step is taken, or '' while there is none, and the words of its button.
    url: str
    action: str
    # Whether it is the first step that is not done.
    is_next: bool = False


def find_checklist(member: Member, *, channel: Channel | None) -> list[Step] | None:
    """Return the steps, or None if all are done or somebody has dismissed them.

    They lead to the pages of `channel`, which is one of the account's if it has any.
    """
    entries = AuditEntry.objects.filter(account=member.account, action__in=(*_KEY_SEEN, DISMISSED))
    actions = set(entries.order_by().values_list("action", flat=True).distinct())
    if DISMISSED in actions:
        return None
    is_answered = channel is not None and has_any_reply(account_id=member.account.id)
    start_url = console_url("start", channel.id) if channel else ""
    steps = [
        Step(
            _("Create a channel"),
            _("One for each site or app that calls the gateway."),
            channel is not None,
            member.url("new_channel"),
            _("Create first channel"),
        ),
        Step(
            _("Copy its key"),
            _("Put it into your backend, never into a web page."),
            # Whoever copied the first command has the key in it.
            bool(actions) or is_answered,
            start_url,
            _("Show key"),
        ),
        Step(
            _("Make the first call"),
            _("The channel's “Connect” page has code ready to paste."),
            is_answered,
            start_url,
            _("Make first call"),
        ),
    ]
    following = next((step for step in steps if not step.is_done), None)
    if following is None:
        return None
    return [replace(step, is_next=step is following) for step in steps]


def dismiss(member: Member) -> None:
    """Dismiss the checklist. Doing it twice records it once."""
    account_id = member.account.id
    if not AuditEntry.objects.filter(account_id=account_id, action=DISMISSED).exists():
        audit.record(DISMISSED, actor=member.actor, account_id=account_id)

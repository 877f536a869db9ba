"""The audit log: who did what in the dashboard or on the command line.

The services that make a change write its entry in the same transaction, so that there is never a
change without an entry or an entry without a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from channels.models import AuditEntry, Channel, User

# Prompts have their own versions, so the log only says that a prompt changed.
_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person, a command, or the gateway itself. And the address they act from."""

    name: str
    user: User | None = None
    address: str = ""


COMMAND_LINE = Actor("command line")
GATEWAY = Actor("gateway")


def record(
    action: str,
    *,
    actor: Actor,
    account_id: int | None,
    channel: Channel | None = None,
    target: str = "",
    changes: Mapping[str, tuple[Any, Any]] | None = None,
) -> AuditEntry:
    """Write one entry. `changes` maps a field to its values before and after, never a secret."""
    return AuditEntry.objects.create(
        account_id=account_id,
        channel=channel,
        actor=actor.user,
        actor_name=actor.name,
        action=action,
        target=target[:200],
        changes={
            field: [_readable(before), _readable(after)]
            for field, (before, after) in (changes or {}).items()
        },
        address=actor.address,
    )


def record_for_person(
    action: str,
    *,
    actor: Actor,
    person: User,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
) -> None:
    """Write an entry about a person's log-in for each of their accounts. Each sees only its own.

    Also writes one for the whole gateway if the person is staff, or if somebody else acts.
    """
    account_ids: list[int | None] = list(person.memberships.values_list("account_id", flat=True))
    if person.is_staff or actor.user != person:
        account_ids.append(None)
    for account_id in account_ids:
        record(action, actor=actor, account_id=account_id, target=person.email, changes=changes)


def changes_between(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return the fields of `after` whose value in `before` differs, with both values."""
    return {
        field: (before.get(field), value)
        for field, value in after.items()
        if before.get(field) != value
    }


def _readable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"

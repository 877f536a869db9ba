"""The time zone of an account: which zones there are, and how its owner changes it."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from channels import audit, limits
from channels.audit import Actor
from channels.models import Account
from common import days

LONGEST_NAME = 64
NO_SUCH_ZONE = gettext_noop("Choose one of the time zones, such as Europe/Berlin.")


def list_names() -> list[str]:
    """Return the time zones to offer: UTC, then those named by region and city."""
    others = {"Etc", "SystemV", "US"}
    cities = [
        name for name in days.names().values() if "/" in name and name.split("/")[0] not in others
    ]
    return [days.UTC_NAME, *cities]


def find_name(text: str) -> str | None:
    """Return the IANA name that a person typed, whatever its case and spaces. None if unknown."""
    name = "_".join(text.split()).lower()
    return days.names().get(name) if len(name) <= LONGEST_NAME else None


@transaction.atomic
def set_time_zone(
    *,
    account: Account,
    time_zone: str | None = None,
    has_local_quota: bool | None = None,
    actor: Actor,
    now: datetime,
) -> Account:
    """Set the zone of an account's days and months, and whether quotas count by its days too.

    What is None stays as it is. Pages show the new days at once. Limits count by them once the
    running period has ended in both zones. Returns the account as stored. Raises ValidationError
    for an unknown zone, and ChangeIsNear if an earlier change is just taking effect.
    """
    if time_zone is not None and days.names().get(time_zone.lower()) != time_zone:
        raise ValidationError({"time_zone": _(NO_SUCH_ZONE)})
    limits.lock_account(account.id)
    stored = Account.objects.get(id=account.id)
    time_zone = stored.time_zone if time_zone is None else time_zone
    has_local_quota = stored.has_local_quota if has_local_quota is None else has_local_quota
    before = {"time zone": stored.time_zone, "quota's day": _quota_words(stored.has_local_quota)}
    after = {"time zone": time_zone, "quota's day": _quota_words(has_local_quota)}
    if before == after:
        return stored
    quota_zone = time_zone if has_local_quota else days.UTC_NAME
    calendar = stored.calendar.changed(zone=time_zone, quota_zone=quota_zone, now=now)
    stored.time_zone, stored.has_local_quota = time_zone, has_local_quota
    stored.turns = calendar.turns()
    stored.save(update_fields=["time_zone", "has_local_quota", "turns"])
    changes = audit.changes_between(before, after)
    audit.record("account.time_zone_changed", actor=actor, account_id=stored.id, changes=changes)
    return stored


def _quota_words(has_local_quota: bool) -> str:
    return "the account's time zone" if has_local_quota else "UTC"

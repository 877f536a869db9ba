"""Retires a channel that has been used: keeps its ledger, erases everything that can be erased."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from channels import api_keys, audit, channel_changes
from channels.audit import Actor
from channels.models import Channel
from channels.usable_keys import usable_keys
from conversations.archive import retention
from conversations.models import FailedRequest


@transaction.atomic
def retire_channel(*, channel: Channel, actor: Actor) -> int:
    """Disable a channel, revoke its keys, and erase its transcripts. Returns messages erased.

    Keeps tokens, charges, and the audit log. A second call does what is left to do.
    """
    channel_changes.update_channel(channel_id=str(channel.id), actor=actor, is_enabled=False)
    now = timezone.now()
    for api_key in usable_keys(now).filter(channel=channel).select_related("channel"):
        api_keys.revoke_api_key(api_key=api_key, actor=actor)
    erased = retention.erase_channel(channel=channel, now=now)
    FailedRequest.objects.filter(channel=channel).exclude(page_url="").update(page_url="")
    audit.record(
        "channel.retired",
        actor=actor,
        account_id=channel.account_id,
        channel=channel,
        target=channel.name,
        changes={"messages_erased": (None, erased)},
    )
    return erased

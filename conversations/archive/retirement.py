"""Takes a channel down: deletes an unused one, and retires any other, keeping its books."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from channels import api_keys, audit, channel_changes
from channels.audit import Actor
from channels.errors import ChannelInUse
from channels.models import Channel
from channels.usable_keys import usable_keys
from conversations.archive import retention
from conversations.models import FailedRequest


def was_used(channel: Channel) -> bool:
    """Return whether the channel has received a message."""
    days = channel.daily_usage
    # The first spend cap leaves days without messages (billing/spend_caps.py).
    if days.exclude(message_count=0, cap_changes__gt=0).exists():
        return True
    # A message that failed has given its place in such a day back.
    return days.exists() and channel.failed_requests.exists()


@transaction.atomic
def delete_channel(*, channel: Channel, actor: Actor) -> None:
    """Delete a channel that never received a message. Raises ChannelInUse for any other."""
    if was_used(channel):
        raise ChannelInUse
    channel.daily_usage.filter(message_count=0).delete()
    channel_changes.delete_channel(channel=channel, actor=actor)


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

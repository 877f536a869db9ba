"""Tags of an account's channels: which there are, filters by them, and changes of several."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Concat
from django.utils.translation import gettext as _

from channels import channel_changes, limits
from channels.audit import Actor
from channels.models import Channel
from channels.models.tags import check_tags, fold_tag, read_tags, write_tags


def list_tags(account_id: int) -> list[str]:
    """Return the tags of an account's channels, in order."""
    rows = Channel.objects.filter(account_id=account_id).exclude(tags="")
    found = {
        tag for text in rows.values_list("tags", flat=True).distinct() for tag in read_tags(text)
    }
    return sorted(found, key=fold_tag)


def tagged(channels: QuerySet[Channel], tag: str) -> QuerySet[Channel]:
    """Return the channels with a tag, as list_tags spells it."""
    around = Concat(Value(", "), F("tags"), Value(", "))
    return channels.alias(around=around).filter(Q(around__contains=f", {tag}, "))


@transaction.atomic
def change_tag(
    *, account_id: int, channel_ids: Collection[uuid.UUID], tag: str, is_added: bool, actor: Actor
) -> int:
    """Add a tag to the given channels, or remove it. Returns how many changed.

    Raises ValidationError, and then changes none, if `tag` is not a single valid tag, or if a
    channel has too many.
    """
    check_tags(tag)
    wanted = read_tags(tag)
    if len(wanted) != 1:
        raise ValidationError(_("Enter one tag.") if wanted else _("Enter a tag."))
    # Nobody else changes the channels' tags until these are written.
    limits.lock_account(account_id)
    changed = 0
    for channel in Channel.objects.filter(account_id=account_id, id__in=channel_ids).order_by("id"):
        kept = [one for one in read_tags(channel.tags) if fold_tag(one) != fold_tag(wanted[0])]
        has_tag = len(kept) < len(read_tags(channel.tags))
        if has_tag == is_added:
            continue
        tags = write_tags([*kept, *wanted] if is_added else kept)
        try:
            channel_changes.update_channel(channel_id=str(channel.id), actor=actor, tags=tags)
        except ValidationError as error:
            raise ValidationError(f"{channel.name}: {' '.join(error.messages)}") from None
        changed += 1
    return changed

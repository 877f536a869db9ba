"""Reads of the keys that work now."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from django.db.models import Q, QuerySet

from channels.models import ApiKey


def list_live_keys(*, channel_ids: Sequence[uuid.UUID], now: datetime) -> dict[uuid.UUID, ApiKey]:
    """Return the live key to show for each channel: the newest, if possible one without an end."""
    keys = usable_keys(now).filter(channel_id__in=channel_ids, mode=ApiKey.Mode.LIVE)
    by_age = sorted(keys, key=lambda key: (key.expires_at is None, key.created_at))
    return {key.channel_id: key for key in by_age}


def usable_keys(now: datetime) -> QuerySet[ApiKey]:
    """Return the keys that work now. Defers their ciphertext and digest."""
    return ApiKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None).defer(
        "key_ciphertext", "key_digest"
    )

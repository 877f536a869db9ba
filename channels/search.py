"""The staff's search for accounts and channels, and an owner's among their channels."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

from django.db.models import Q

from channels.models import ApiKey, Channel, Membership

# Returns whether the person who searches has a permission. What they may not see finds nothing:
# otherwise a list of names would reveal addresses and keys letter by letter.
May = Callable[[str], bool]


def accounts_matching(term: str, may: May) -> Q:
    """Return a filter for accounts by name, by a member's address, or by one of their channels."""
    found = Q(name__icontains=term)
    if may("channels.view_membership"):
        members = Membership.objects.filter(user__email__icontains=term)
        found |= Q(id__in=members.values("account_id"))
    if may("channels.view_channel"):
        channels = Channel.objects.filter(_channel_itself(term, may))
        found |= Q(id__in=channels.values("account_id"))
    return found


def channels_matching(term: str, may: May) -> Q:
    """Return a filter for channels by their own fields, their account's name, or a member."""
    found = _channel_itself(term, may) | Q(account__name__icontains=term)
    if may("channels.view_membership"):
        members = Membership.objects.filter(user__email__icontains=term)
        found |= Q(account_id__in=members.values("account_id"))
    return found


def named_like(term: str) -> Q:
    """Return a filter for channels by a part of their name, tags, or the id that a program gave."""
    return Q(name__icontains=term) | Q(external_id__icontains=term) | Q(tags__icontains=term)


def _channel_itself(term: str, may: May) -> Q:
    """Return a filter for channels by a part of their name, external id or site, their id, or a
    key's end.
    """
    found = named_like(term) | Q(site_url__icontains=term)
    if may("channels.view_apikey") and (ending := key_ending(term)):
        with_key = ApiKey.objects.filter(key_last_four=ending)
        found |= Q(id__in=with_key.values("channel_id"))
    try:
        return found | Q(id=uuid.UUID(term))
    except ValueError:
        return found


def key_ending(term: str) -> str:
    """Return the end of a key, typed alone or with its mask (`amgai_…x7Qf`), or '' otherwise."""
    found = re.fullmatch(r"(?:.*…)?([0-9A-Za-z]{4})", term.strip())
    return found[1] if found else ""

"""Recognizes the devices from which a person logs in, and tells them of a new one.

A device is a browser's name and system (“Firefox on Linux”) together with a network (an IPv4
address, or an IPv6 /64). The gateway stores a keyed digest of the two for each person, and when
they last logged in from there. It stores neither of them in a readable form, and deletes the row 90
days after the last log-in from it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from channels import person_mails
from channels.models import KnownDevice, User
from common import crypto, languages
from common.addresses import counted_as
from common.floods import client_address
from dashboard.login.sessions import device_of

KNOWN_FOR = timedelta(days=90)


@transaction.atomic
def note_log_in(request: HttpRequest, user: User) -> None:
    """Remember the device of a log-in. If it is new to this person, tell them by e-mail.

    A person's very first log-in is no news.
    """
    now, address = timezone.now(), client_address(request)
    user_agent = request.headers.get("User-Agent", "")
    # The digest is of the English name, whatever language the person reads.
    with languages.speaking("en"):
        device = device_of(user_agent)
    forget_unused(now=now, user=user)
    known = KnownDevice.objects.filter(user=user)
    # Also under earlier peppers, so that no device is new because of a rotation.
    digests = crypto.digests(f"device of {user.pk}: {device}, {counted_as(address)}")
    if known.filter(digest__in=digests).update(last_login_at=now):
        return
    is_first = user.date_joined > now - KNOWN_FOR and not known.exists()
    KnownDevice.objects.bulk_create(
        [KnownDevice(user=user, digest=digests[0], last_login_at=now)], ignore_conflicts=True
    )
    if not is_first:
        with languages.speaking(user.language):
            device = device_of(user_agent)
        person_mails.tell_of_device(user=user, device=device, address=address)


def forget_unused(*, now: datetime, user: User | None = None) -> int:
    """Delete the devices, of one person or of all, that were last used 90 days ago."""
    unused = KnownDevice.objects.filter(last_login_at__lte=now - KNOWN_FOR)
    return (unused.filter(user=user) if user else unused).delete()[0]

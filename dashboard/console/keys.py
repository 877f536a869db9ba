"""Keys of a channel: shown masked, revealed after a recent log-in, rotated, revoked."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import spend_caps
from channels import api_keys, key_terms, key_uses
from channels.api_keys import IssuedKey
from channels.errors import KeyNotActive, PlanLimitReached
from channels.key_uses import QUIET, UseOfKey
from channels.models import ApiKey, Channel
from common.crypto import DecryptionError
from common.pages.requests import post_only
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.navigation import channel_tabs
from dashboard.console.pages import render_page

KEYS_PER_PAGE = 50
OVERLAPS = {
    "0": gettext_lazy("at once"),
    "3600": gettext_lazy("after 1 hour"),
    "86400": gettext_lazy("after 24 hours"),
    "604800": gettext_lazy("after 7 days"),
}


NO_USE = UseOfKey(None, 0, 0)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key, whether it still works, and how it was used."""

    key: ApiKey
    ends_at: datetime | None
    works: bool
    use: UseOfKey
    now: datetime

    @property
    def can_rotate(self) -> bool:
        return self.works and self.key.rotated_at is None

    @property
    def is_retiring(self) -> bool:
        """Whether the key still works beside its successor."""
        return self.works and self.key.rotated_at is not None

    @property
    def safe_at(self) -> datetime:
        """When a retiring key will have been quiet for long enough."""
        return self.use.quiet_since(self.key) + QUIET

    @property
    def is_safe_before_end(self) -> bool:
        return self.ends_at is None or self.safe_at < self.ends_at

    @property
    def is_safe(self) -> bool:
        return self.safe_at <= self.now

    @property
    def ranges(self) -> list[str]:
        return key_terms.read_lines(self.key.allowed_addresses)

    @property
    def models(self) -> list[str]:
        return key_terms.read_lines(self.key.allowed_models)


def key_row(key: ApiKey, now: datetime, use: UseOfKey = NO_USE) -> KeyRow:
    """Return a key's row at `now`."""
    ends = [moment for moment in (key.revoked_at, key.expires_at) if moment is not None]
    ends_at = min(ends, default=None)
    works = key.revoked_at is None and (ends_at is None or ends_at > now)
    return KeyRow(key, ends_at, works, use, now)


@channel_page()
def keys(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """List the channel's keys, newest first."""
    return render_keys(request, member, channel)


def render_keys(
    request: HttpRequest, member: Member, channel: Channel, *, fresh: tuple[IssuedKey, ...] = ()
) -> HttpResponse:
    """Return the keys page. Shows `fresh` keys in clear text, in this one response only."""
    now = timezone.now()
    own = ApiKey.objects.filter(channel=channel).select_related("created_by")
    own = own.defer("key_ciphertext", "key_digest")
    page = Paginator(own.order_by("-created_at", "id"), KEYS_PER_PAGE).get_page(
        request.GET.get("page")
    )
    uses = key_uses.list_uses([key.id for key in page], now=now)
    response = render_page(
        request,
        member,
        "keys.html",
        title=_("Keys"),
        channel=channel,
        # A new channel's keys are shown at the URL of the form that created it.
        channel_tabs=channel_tabs(request, channel, active="keys"),
        rows=[key_row(key, now, uses[key.id]) for key in page],
        page=page,
        fresh=fresh,
        overlaps=OVERLAPS,
    )
    response["Cache-Control"] = "no-store"
    return response


def get_key(channel: Channel, key_id: uuid.UUID) -> ApiKey:
    """Return a key of this channel. Raises Http404 for every other."""
    key = ApiKey.objects.select_related("channel").filter(channel=channel, id=key_id).first()
    if key is None:
        raise Http404
    return key


# --- Reveal and copy ------------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
@post_only
def show_key(
    request: HttpRequest, member: Member, channel: Channel, key_id: uuid.UUID
) -> JsonResponse:
    """Return a key's clear text. The gate only lets people pass after a recent log-in."""
    key = get_key(channel, key_id)
    if not key_row(key, timezone.now()).works:
        return _json({"error": _("This key no longer works, so it is not shown.")}, 409)
    try:
        clear = api_keys.show_api_key(
            api_key=key, actor=member.actor, is_copy=bool(request.POST.get("copy"))
        )
    except DecryptionError:
        return _json(
            {"error": _("The key cannot be decrypted. The operator must restore ENCRYPTION_KEYS.")},
            500,
        )
    return _json({"key": clear})


@channel_page(needs=Role.EDITOR)
@post_only
def note_copied(
    request: HttpRequest, member: Member, channel: Channel, key_id: uuid.UUID
) -> JsonResponse:
    """Record that somebody copied a new key while it was shown."""
    api_keys.note_key_copied(api_key=get_key(channel, key_id), actor=member.actor)
    return _json({})


def _json(answer: dict[str, str], status: int = 200) -> JsonResponse:
    return JsonResponse(answer, status=status, headers={"Cache-Control": "no-store"})


# --- Rotated, revoked -----------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
@post_only
def rotate_key(
    request: HttpRequest, member: Member, channel: Channel, key_id: uuid.UUID
) -> HttpResponse:
    """Create a successor and show it. The old key stops working after the chosen time."""
    key = get_key(channel, key_id)
    overlap = request.POST.get("overlap", "")
    if overlap not in OVERLAPS:
        messages.error(request, _("Choose when the old key stops working."))
        return redirect("console:keys", channel.id)
    try:
        issued = spend_caps.rotate_key(
            api_key=key, overlap=timedelta(seconds=int(overlap)), actor=member.actor
        )
    except KeyNotActive:
        words = _("%(key)s was already rotated or revoked.")
        messages.error(request, words % {"key": key.masked})
        return redirect("console:keys", channel.id)
    except PlanLimitReached as refusal:
        messages.error(request, refusal.sentence)
        return redirect("console:keys", channel.id)
    return render_keys(request, member, channel, fresh=(issued,))


@channel_page(needs=Role.EDITOR)
@post_only
def revoke_key(
    request: HttpRequest, member: Member, channel: Channel, key_id: uuid.UUID
) -> HttpResponse:
    """Revoke a key now. Revoking it again changes nothing."""
    key = get_key(channel, key_id)
    api_keys.revoke_api_key(api_key=key, actor=member.actor)
    words = _("%(key)s has been revoked. The next call with it is refused.")
    messages.success(request, words % {"key": key.masked})
    return redirect("console:keys", channel.id)


_KEY = "channels/<uuid:channel_id>/keys/<uuid:key_id>"
urlpatterns = [
    path("channels/<uuid:channel_id>/keys/", keys, name="keys"),
    path(f"{_KEY}/show/", show_key, name="show_key"),
    path(f"{_KEY}/copied/", note_copied, name="note_key_copied"),
    path(f"{_KEY}/rotate/", rotate_key, name="rotate_key"),
    path(f"{_KEY}/revoke/", revoke_key, name="revoke_key"),
]

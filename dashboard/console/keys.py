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

from channels import api_keys
from channels.api_keys import IssuedKey
from channels.errors import KeyNotActive, MadeBefore, PlanLimitReached
from channels.models import ApiKey, Channel
from common.crypto import DecryptionError
from common.pages.requests import post_only
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.navigation import channel_tabs
from dashboard.console.pages import render_page

KEYS_PER_PAGE = 50
OVERLAPS = {
    "0": "at once",
    "3600": "after 1 hour",
    "86400": "after 24 hours",
    "604800": "after 7 days",
}


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key and whether it still works."""

    key: ApiKey
    ends_at: datetime | None
    works: bool

    @property
    def can_rotate(self) -> bool:
        return self.works and self.ends_at is None


def _row(key: ApiKey, now: datetime) -> KeyRow:
    ends = [moment for moment in (key.revoked_at, key.expires_at) if moment is not None]
    ends_at = min(ends, default=None)
    works = key.revoked_at is None and (ends_at is None or ends_at > now)
    return KeyRow(key, ends_at, works)


@channel_page()
def keys(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """List the channel's keys, newest first."""
    return render_keys(request, member, channel)


def render_keys(
    request: HttpRequest, member: Member, channel: Channel, *, fresh: tuple[IssuedKey, ...] = ()
) -> HttpResponse:
    """Return the keys page. Shows `fresh` keys in clear text, in this one response only."""
    now = timezone.now()
    own = ApiKey.objects.filter(channel=channel).defer("key_ciphertext", "key_digest")
    page = Paginator(own.order_by("-created_at", "id"), KEYS_PER_PAGE).get_page(
        request.GET.get("page")
    )
    response = render_page(
        request,
        member,
        "keys.html",
        title="Keys",
        channel=channel,
        # A new channel's keys are shown at the URL of the form that created it.
        channel_tabs=channel_tabs(request, channel, active="keys"),
        rows=[_row(key, now) for key in page],
        page=page,
        fresh=fresh,
        overlaps=OVERLAPS,
        new_key_id=uuid.uuid4(),
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
    if not _row(key, timezone.now()).works:
        return _json({"error": "This key no longer works, so it is not shown."}, 409)
    try:
        clear = api_keys.show_api_key(
            api_key=key, actor=member.actor, is_copy=bool(request.POST.get("copy"))
        )
    except DecryptionError:
        return _json(
            {"error": "The key cannot be decrypted. The operator must restore ENCRYPTION_KEYS."},
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


# --- New, rotated, revoked ------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
@post_only
def new_key(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Create a key and show it. The form carries its id, so sending it twice creates one key."""
    mode = request.POST.get("mode")
    if mode not in ApiKey.Mode.values:
        messages.error(request, "Choose whether the key is a live or a test key.")
        return redirect("console:keys", channel.id)
    try:
        key_id = uuid.UUID(request.POST.get("key_id", ""))
        issued = api_keys.issue_api_key(
            channel=channel, is_test=mode == ApiKey.Mode.TEST, key_id=key_id, actor=member.actor
        )
    except (ValueError, MadeBefore):
        messages.info(request, "This form was already submitted. Its key is in the list.")
        return redirect("console:keys", channel.id)
    except PlanLimitReached as refusal:
        messages.error(request, refusal.sentence)
        return redirect("console:keys", channel.id)
    return render_keys(request, member, channel, fresh=(issued,))


@channel_page(needs=Role.EDITOR)
@post_only
def rotate_key(
    request: HttpRequest, member: Member, channel: Channel, key_id: uuid.UUID
) -> HttpResponse:
    """Create a successor and show it. The old key stops working after the chosen time."""
    key = get_key(channel, key_id)
    overlap = request.POST.get("overlap", "")
    if overlap not in OVERLAPS:
        messages.error(request, "Choose when the old key stops working.")
        return redirect("console:keys", channel.id)
    try:
        issued = api_keys.rotate_api_key(
            api_key=key, overlap=timedelta(seconds=int(overlap)), actor=member.actor
        )
    except KeyNotActive:
        messages.error(request, f"{key.masked} was already rotated or revoked.")
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
    messages.success(request, f"{key.masked} has been revoked. The next call with it is refused.")
    return redirect("console:keys", channel.id)


_KEY = "channels/<uuid:channel_id>/keys/<uuid:key_id>"
urlpatterns = [
    path("channels/<uuid:channel_id>/keys/", keys, name="keys"),
    path("channels/<uuid:channel_id>/keys/new/", new_key, name="new_key"),
    path(f"{_KEY}/show/", show_key, name="show_key"),
    path(f"{_KEY}/copied/", note_copied, name="note_key_copied"),
    path(f"{_KEY}/rotate/", rotate_key, name="rotate_key"),
    path(f"{_KEY}/revoke/", revoke_key, name="revoke_key"),
]

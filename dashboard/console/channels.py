"""Channels: create one, change its settings, delete or retire it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels import api_keys, channel_changes, model_moves, team
from channels.errors import ChannelChanged, ChannelInUse, MadeBefore, UnknownModel
from channels.models import AuditEntry, Channel
from common.days import zone_of
from common.db import uuid7
from common.pages.forms import id_of_new
from common.pages.numbers import local_number
from common.pages.requests import post_only
from conversations.archive import retirement
from dashboard.console.access import Member, Role, channel_page, member_page
from dashboard.console.channel_forms import (
    Difference,
    NewChannelForm,
    SettingsForm,
    list_differences,
)
from dashboard.console.first_call import render_start
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page

# The Team page lists the rest.
MOST_MEMBERS = 10

# --- A new channel --------------------------------------------------------------------------------


@member_page(needs=Role.EDITOR)
def new_channel(request: HttpRequest, member: Member) -> HttpResponse:
    """Create a channel with a live and a test key, and show both keys in the response."""
    if request.method != "POST":
        return _render_new(request, member, NewChannelForm.empty(member.account))
    form = NewChannelForm(member.account, request.POST)
    if not form.is_valid():
        return _render_new(request, member, form, status=422)
    try:
        channel, issued = _create(member, form.cleaned_data)
    except MadeBefore:
        messages.info(
            request, _("This form was already submitted. Here is the channel it created.")
        )
        made = id_of_new(form.cleaned_data["id"], of=member.account.id)
        return redirect("console:start", made)
    except ValidationError as error:
        add_errors(form, error)
        return _render_new(request, member, form, status=422)
    return render_start(request, member, channel, fresh=tuple(issued))


def _create(member: Member, data: dict[str, Any]) -> tuple[Channel, list[api_keys.IssuedKey]]:
    return channel_changes.create_channel_with_keys(
        account=member.account,
        actor=member.actor,
        id=id_of_new(data["id"], of=member.account.id),
        name=data["name"],
        site_url=data["site_url"],
        model_id=data["model"].model_id,
    )


def _render_new(
    request: HttpRequest, member: Member, form: NewChannelForm, *, status: int = 200
) -> HttpResponse:
    return render_page(
        request, member, "channel_new.html", title=_("New channel"), form=form, status=status
    )


def add_errors(form: forms.Form, error: ValidationError) -> None:
    """Show what a service rejected beside the fields concerned."""
    for field, words in error.message_dict.items():
        form.add_error(field if field in form.fields else None, words)


# --- Settings -------------------------------------------------------------------------------------


@channel_page()
def channel(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the settings."""
    return _render_settings(request, member, channel, _filled_form(channel))


@channel_page(needs=Role.EDITOR)
@post_only
def save_channel(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Save the settings, unless somebody else has saved them since the page was opened."""
    form = SettingsForm(channel, request.POST)
    if not form.is_valid():
        return _render_settings(request, member, channel, form, status=422)
    try:
        channel_changes.update_channel(
            channel_id=str(channel.id),
            actor=member.actor,
            expected_digest=form.cleaned_data["digest"],
            **form.changes(),
        )
    except ChannelChanged:
        return _render_conflict(request, member, channel)
    except ValidationError as error:
        add_errors(form, error)
        return _render_settings(request, member, channel, form, status=422)
    messages.success(request, _("Saved. Changes apply to the next request."))
    return redirect("console:channel", channel.id)


def _filled_form(channel: Channel) -> SettingsForm:
    values = {name: getattr(channel, name) for name in SettingsForm.FIELDS}
    replies = {f"reply_{code}": text for code, text in channel.fallback_replies.items()}
    digest = channel_changes.digest_fields(channel, SettingsForm.FIELDS)
    model = {"model": channel.model.model_id}
    return SettingsForm(channel, initial=values | replies | model | {"digest": digest})


def _render_conflict(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the person's input beside what somebody else saved. Saving again replaces that."""
    channel = Channel.objects.select_related("model", "account__plan").get(id=channel.id)
    stored = _filled_form(channel)
    data = request.POST.copy()
    data["digest"] = stored["digest"].value()
    form = SettingsForm(channel, data)
    form.add_error(None, words_of_conflict(channel))
    return _render_settings(
        request, member, channel, form, status=409, differences=list_differences(stored, form)
    )


def words_of_conflict(channel: Channel, action: str = "channel.updated", **entry: Any) -> str:
    """Say who saved in between, as far as the audit log knows."""
    entries = AuditEntry.objects.filter(account_id=channel.account_id, channel=channel)
    last = entries.filter(action=action, **entry).order_by("-id").first()
    if last is None:
        return _(
            "Nothing was saved, because someone changed this after you opened the page: It was "
            "saved. Your input is still here. Save again to replace their version with it."
        )
    words = _(
        "Nothing was saved, because someone changed this after you opened the page: %(name)s saved "
        "it at %(time)s. Your input is still here. Save again to replace their version with it."
    )
    zone = channel.account.time_zone
    time = f"{last.created_at.astimezone(zone_of(zone)):%H:%M} {zone}"
    return words % {"name": last.actor_name, "time": time}


def _render_settings(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    form: SettingsForm,
    *,
    status: int = 200,
    differences: Sequence[Difference] = (),
) -> HttpResponse:
    if form.is_bound:  # the frame shows the stored values, not the rejected ones
        channel = Channel.objects.select_related("model", "account__plan").get(id=channel.id)
    people = team.list_members(channel.account)
    return render_page(
        request,
        member,
        "channels.html",
        title=_("Settings"),
        channel=channel,
        form=form,
        members=people[:MOST_MEMBERS],
        more_members=len(people[MOST_MEMBERS:]),
        was_used=retirement.was_used(channel),
        differences=differences,
        move=model_moves.find_move(channel, is_fallback=False),
        theirs_url=console_url("channel", channel.id),
        copy_id=uuid7(),
        status=status,
    )


@channel_page(needs=Role.EDITOR)
@post_only
def move_model_back(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Put the channel back on the model, or the fallback model, that it left when that retired."""
    is_fallback = "is_fallback" in request.POST
    move = model_moves.find_move(channel, is_fallback=is_fallback)
    try:
        if move is None:
            raise ChannelChanged
        model_moves.move_back(move=move, actor=member.actor)
    except ChannelChanged:
        messages.info(
            request, _("Nothing was changed: the channel no longer uses the model it was moved to.")
        )
    except ValidationError as error:
        words = _("Nothing was changed. %(reasons)s")
        messages.error(request, words % {"reasons": " ".join(error.messages)})
    else:
        words = _("The channel uses %(model)s again, from the next request on.")
        if is_fallback:
            words = _(
                "The channel uses %(model)s again as its fallback model, from the next request on."
            )
        messages.success(request, words % {"model": move.left})
    return redirect("console:prompt" if is_fallback else "console:channel", channel.id)


@channel_page(needs=Role.EDITOR)
@post_only
def duplicate_channel(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Create a copy of a channel, with keys of its own."""
    try:
        form_id = uuid.UUID(request.POST.get("id", ""))
    except ValueError:
        raise Http404 from None
    copy_id = id_of_new(form_id, of=channel.id)
    try:
        copy, issued = channel_changes.duplicate_channel(
            channel=channel, id=copy_id, actor=member.actor
        )
    except MadeBefore:
        messages.info(request, _("This copy was already made. Here it is."))
        return redirect("console:start", copy_id)
    except (UnknownModel, ValidationError) as error:
        reasons = error.messages if isinstance(error, ValidationError) else [str(error)]
        words = _("Nothing was copied. %(reasons)s")
        messages.error(request, words % {"reasons": " ".join(reasons)})
        return redirect("console:channel", channel.id)
    return render_start(request, member, copy, fresh=tuple(issued))


# --- Danger zone ----------------------------------------------------------------------------------


def _is_confirmed(request: HttpRequest, channel: Channel) -> bool:
    if request.POST.get("confirmation", "").strip() == channel.name.strip():
        return True
    messages.error(request, _("Nothing was changed: the name you typed is not the channel's name."))
    return False


@channel_page(needs=Role.OWNER)
@post_only
def delete_channel(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Delete a channel that never received a message."""
    if not _is_confirmed(request, channel):
        return redirect("console:channel", channel.id)
    try:
        retirement.delete_channel(channel=channel, actor=member.actor)
    except ChannelInUse:
        messages.error(
            request, _("The channel has received messages, so it cannot be deleted. Retire it.")
        )
        return redirect("console:channel", channel.id)
    words = _("The channel “%(name)s” has been deleted.")
    messages.success(request, words % {"name": channel.name})
    return redirect(member.url("index"))


@channel_page(needs=Role.OWNER)
@post_only
def retire(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Disable the channel, revoke all its keys, and erase all its transcripts."""
    if _is_confirmed(request, channel):
        erased = retirement.retire_channel(channel=channel, actor=member.actor)
        words = ngettext(
            "Retired: switched off, all keys revoked, %(count)s message erased.",
            "Retired: switched off, all keys revoked, %(count)s messages erased.",
            erased,
        )
        messages.success(request, words % {"count": local_number(erased)})
    return redirect("console:channel", channel.id)


_CHANNEL = "channels/<uuid:channel_id>"
urlpatterns = [
    path("channels/new/", new_channel, name="new_channel"),
    path(f"{_CHANNEL}/", channel, name="channel"),
    path(f"{_CHANNEL}/save/", save_channel, name="save_channel"),
    path(f"{_CHANNEL}/duplicate/", duplicate_channel, name="duplicate_channel"),
    path(f"{_CHANNEL}/move-back/", move_model_back, name="move_model_back"),
    path(f"{_CHANNEL}/delete/", delete_channel, name="delete_channel"),
    path(f"{_CHANNEL}/retire/", retire, name="retire_channel"),
]

"""A channel's system prompt and answer settings: edit, keep versions, compare, restore one."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _

from channels import channel_changes, diffs, model_moves
from channels.diffs import DiffLine
from channels.errors import ChannelChanged
from channels.models import (
    ANSWER_SETTINGS,
    MAX_SYSTEM_PROMPT_CHARACTERS,
    Channel,
    PromptVersion,
)
from channels.providers.tokens import estimate_tokens, most_tokens
from common.pages.requests import post_only
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.channel_forms import Difference, list_differences
from dashboard.console.channels import add_errors, words_of_conflict
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page
from dashboard.console.prompt_forms import PromptForm, words_of_settings
from dashboard.console.prompt_templates import TEMPLATES, find_template
from dashboard.console.staff_view import note_reading

VERSIONS_PER_PAGE = 20


@channel_page()
def prompt(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the prompt to edit, and its versions. With `?template=`, filled with a template."""
    note_reading(member, "system prompt", channel=channel)
    template = find_template(request.GET.get("template", "")) if member.can_edit else None
    form = PromptForm.filled(channel)
    if template is not None:
        form.initial["system_prompt"] = template.text
    return _render(request, member, channel, form, is_template=template is not None)


@channel_page(needs=Role.EDITOR)
@post_only
def save_prompt(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Save text and settings as a new version of the prompt. The same ones create no version."""
    form = PromptForm(channel, request.POST)
    if not form.is_valid():
        return _render(request, member, channel, form, status=422)
    if all(getattr(channel, name) == value for name, value in form.changes().items()):
        messages.info(request, _("Nothing changed, so there is no new version."))
        return redirect("console:prompt", channel.id)
    try:
        saved = channel_changes.update_channel(
            channel_id=str(channel.id),
            actor=member.actor,
            expected_digest=form.cleaned_data["digest"],
            prompt_note=form.cleaned_data["prompt_note"],
            **form.changes(),
        )
    except ChannelChanged:
        return _render_conflict(request, member, channel)
    except ValidationError as error:
        add_errors(form, error)
        return _render(request, member, channel, form, status=422)
    words = _("Saved as version %(number)s. The next message uses it.")
    messages.success(request, words % {"number": saved.prompt_version})
    return redirect("console:prompt", channel.id)


@channel_page(needs=Role.EDITOR)
@post_only
def prompt_changes(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show how the text in the form differs from the published prompt. Saves nothing."""
    form = PromptForm(channel, request.POST)
    form.is_valid()
    text = form.cleaned_data.get("system_prompt")
    if text is None:
        return _render(request, member, channel, form, status=422)
    changes = _differing(channel.system_prompt, text)
    return _render(request, member, channel, form, changes=changes)


def _render_conflict(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the person's input beside what somebody else saved. Saving again adds a version."""
    channel = Channel.objects.select_related("model", "account__plan").get(id=channel.id)
    stored = PromptForm.filled(channel)
    data = request.POST.copy()
    data["digest"] = stored["digest"].value()
    form = PromptForm(channel, data)
    form.add_error(None, words_of_conflict(channel))
    note = form["prompt_note"].label
    differences = [one for one in list_differences(stored, form) if one.label != note]
    return _render(request, member, channel, form, status=409, differences=differences)


def _render(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    form: PromptForm,
    *,
    status: int = 200,
    differences: Sequence[Difference] = (),
    changes: Sequence[DiffLine] | None = None,
    is_template: bool = False,
) -> HttpResponse:
    text = str(form["system_prompt"].value() or "").replace("\r\n", "\n")
    versions = PromptVersion.objects.filter(channel=channel).select_related("author").defer("text")
    page = Paginator(versions, VERSIONS_PER_PAGE).get_page(request.GET.get("page"))
    return render_page(
        request,
        member,
        "prompts.html",
        title=_("Prompt"),
        channel=channel,
        form=form,
        page=page,
        most=MAX_SYSTEM_PROMPT_CHARACTERS,
        tokens=estimate_tokens(text),
        most_tokens=most_tokens(text),
        differences=differences,
        changes=changes,
        templates=TEMPLATES,
        is_unsaved=form.is_bound or is_template,
        move=model_moves.find_move(channel, is_fallback=True),
        theirs_url=console_url("prompt", channel.id),
        status=status,
    )


# --- Versions -------------------------------------------------------------------------------------


def _get_version(channel: Channel, number: int) -> PromptVersion:
    """Return a version of this channel. Raises Http404 for every other."""
    versions = PromptVersion.objects.select_related("author", "fallback_model")
    version = versions.filter(channel=channel, number=number).first()
    if version is None:
        raise Http404
    return version


@channel_page()
def prompt_version(
    request: HttpRequest, member: Member, channel: Channel, number: int
) -> HttpResponse:
    """Show one version and what has changed since."""
    version = _get_version(channel, number)
    note_reading(member, f"system prompt, version {number}", channel=channel)
    return render_page(
        request,
        member,
        "prompt_version.html",
        title=_("Prompt, version %(number)s") % {"number": number},
        channel=channel,
        version=version,
        tokens=estimate_tokens(version.text),
        is_current=number == channel.prompt_version,
        settings=words_of_settings(version),
        settings_diff=_differing(words_of_settings(version), words_of_settings(channel)),
        diff=_differing(version.text, channel.system_prompt),
    )


def _differing(before: str, after: str) -> list[DiffLine]:
    """Return the lines of both texts, or none if they are the same."""
    return [] if before == after else diffs.diff_lines(before, after)


@channel_page(needs=Role.EDITOR)
@post_only
def restore_prompt(
    request: HttpRequest, member: Member, channel: Channel, number: int
) -> HttpResponse:
    """Make an earlier version's text and settings the current ones. Idempotent."""
    version = _get_version(channel, number)
    try:
        saved = channel_changes.update_channel(
            channel_id=str(channel.id),
            actor=member.actor,
            prompt_note=f"Back to version {number}",
            system_prompt=version.text,
            **{name: getattr(version, name) for name in ANSWER_SETTINGS},
        )
    except ValidationError as refusal:
        messages.error(request, " ".join(refusal.messages))
        return redirect("console:prompt", channel.id)
    if saved.prompt_version == channel.prompt_version:
        words = _("The prompt is already the same as version %(number)s.")
        messages.info(request, words % {"number": number})
    else:
        words = _("Version %(number)s is current again, as version %(latest)s.")
        messages.success(request, words % {"number": number, "latest": saved.prompt_version})
    return redirect("console:prompt", channel.id)


_PROMPT = "channels/<uuid:channel_id>/prompt"
urlpatterns = [
    path(f"{_PROMPT}/", prompt, name="prompt"),
    path(f"{_PROMPT}/save/", save_prompt, name="save_prompt"),
    path(f"{_PROMPT}/changes/", prompt_changes, name="prompt_changes"),
    path(f"{_PROMPT}/<int:number>/", prompt_version, name="prompt_version"),
    path(f"{_PROMPT}/<int:number>/restore/", restore_prompt, name="restore_prompt"),
]

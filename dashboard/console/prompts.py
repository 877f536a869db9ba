"""The system prompt of a channel: edit it, keep versions, compare them, restore one."""

from __future__ import annotations

from collections.abc import Sequence

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path

from channels import channel_changes, diffs
from channels.errors import ChannelChanged, PlanLimitReached
from channels.models import MAX_SYSTEM_PROMPT_CHARACTERS, Channel, PromptVersion
from common.pages.forms import PlainForm
from common.pages.requests import post_only
from common.tokens import estimate_tokens
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.channel_forms import Difference, PlainText, list_differences
from dashboard.console.channels import add_errors, words_of_conflict
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page
from dashboard.console.staff_view import note_reading

VERSIONS_PER_PAGE = 20


class PromptForm(PlainForm):
    """The prompt's text. `digest` is that of the text when the page was opened."""

    digest = forms.CharField(widget=forms.HiddenInput, max_length=64)
    system_prompt = PlainText(
        label="System prompt",
        required=False,
        # White space at either end is the owner's choice.
        strip=False,
        max_length=MAX_SYSTEM_PROMPT_CHARACTERS,
        help_text="What the AI is told before every conversation: who it is, what it knows, "
        "how it answers.",
        widget=forms.Textarea(attrs={"rows": 18, "dir": "auto", "data-count": "#prompt-count"}),
    )
    prompt_note = forms.CharField(
        label="Note for this version",
        required=False,
        max_length=200,
        help_text="What you changed and why. Only your team sees this.",
    )


@channel_page()
def prompt(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the prompt to edit, and its versions."""
    note_reading(member, "system prompt", channel=channel)
    return _render(request, member, channel, _filled_form(channel))


def _filled_form(channel: Channel) -> PromptForm:
    digest = channel_changes.digest_fields(channel, ["system_prompt"])
    return PromptForm(initial={"system_prompt": channel.system_prompt, "digest": digest})


@channel_page(needs=Role.EDITOR)
@post_only
def save_prompt(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Save the text as a new version of the prompt. The same text creates no version."""
    form = PromptForm(request.POST)
    if not form.is_valid():
        return _render(request, member, channel, form, status=422)
    data = form.cleaned_data
    if data["system_prompt"] == channel.system_prompt:
        messages.info(request, "Nothing changed, so there is no new version.")
        return redirect("console:prompt", channel.id)
    try:
        saved = channel_changes.update_channel(
            channel_id=str(channel.id),
            actor=member.actor,
            expected_digest=data["digest"],
            prompt_note=data["prompt_note"],
            system_prompt=data["system_prompt"],
        )
    except ChannelChanged:
        return _render_conflict(request, member, channel)
    except ValidationError as error:
        add_errors(form, error)
        return _render(request, member, channel, form, status=422)
    messages.success(request, f"Saved as version {saved.prompt_version}. The next message uses it.")
    return redirect("console:prompt", channel.id)


def _render_conflict(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the person's input beside what somebody else saved. Saving again adds a version."""
    channel = Channel.objects.select_related("model", "account__plan").get(id=channel.id)
    stored = _filled_form(channel)
    data = request.POST.copy()
    data["digest"] = stored["digest"].value()
    form = PromptForm(data)
    form.add_error(None, words_of_conflict(channel))
    prompts = [one for one in list_differences(stored, form) if one.label == "System prompt"]
    return _render(request, member, channel, form, status=409, differences=prompts)


def _render(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    form: PromptForm,
    *,
    status: int = 200,
    differences: Sequence[Difference] = (),
) -> HttpResponse:
    versions = PromptVersion.objects.filter(channel=channel).select_related("author").defer("text")
    page = Paginator(versions, VERSIONS_PER_PAGE).get_page(request.GET.get("page"))
    return render_page(
        request,
        member,
        "prompts.html",
        title="Prompt",
        channel=channel,
        form=form,
        page=page,
        most=MAX_SYSTEM_PROMPT_CHARACTERS,
        tokens=estimate_tokens(channel.system_prompt),
        differences=differences,
        theirs_url=console_url("prompt", channel.id),
        status=status,
    )


# --- Versions -------------------------------------------------------------------------------------


def _get_version(channel: Channel, number: int) -> PromptVersion:
    """Return a version of this channel. Raises Http404 for every other."""
    versions = PromptVersion.objects.select_related("author")
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
        title=f"Prompt, version {number}",
        channel=channel,
        version=version,
        tokens=estimate_tokens(version.text),
        is_current=number == channel.prompt_version,
        is_same_text=version.text == channel.system_prompt,
        diff=diffs.diff_lines(version.text, channel.system_prompt),
    )


@channel_page(needs=Role.EDITOR)
@post_only
def restore_prompt(
    request: HttpRequest, member: Member, channel: Channel, number: int
) -> HttpResponse:
    """Make an earlier version's text the current prompt. Idempotent."""
    version = _get_version(channel, number)
    try:
        saved = channel_changes.update_channel(
            channel_id=str(channel.id),
            actor=member.actor,
            prompt_note=f"Back to version {number}",
            system_prompt=version.text,
        )
    except PlanLimitReached as refusal:
        messages.error(request, refusal.sentence)
        return redirect("console:prompt", channel.id)
    if saved.prompt_version == channel.prompt_version:
        messages.info(request, f"The prompt already has the text of version {number}.")
    else:
        words = f"Version {number} is back, as version {saved.prompt_version}."
        messages.success(request, words)
    return redirect("console:prompt", channel.id)


_PROMPT = "channels/<uuid:channel_id>/prompt"
urlpatterns = [
    path(f"{_PROMPT}/", prompt, name="prompt"),
    path(f"{_PROMPT}/save/", save_prompt, name="save_prompt"),
    path(f"{_PROMPT}/<int:number>/", prompt_version, name="prompt_version"),
    path(f"{_PROMPT}/<int:number>/restore/", restore_prompt, name="restore_prompt"),
]

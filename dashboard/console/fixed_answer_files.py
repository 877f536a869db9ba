"""Saved replies as a CSV file: the download, an example, and the upload with its preview."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _

from channels import fixed_answer_files as files
from channels import fixed_answers, limits
from channels.errors import ChannelChanged, PlanLimitReached
from channels.fixed_answer_files import Plan, Row, UnreadableFile
from channels.models import LONGEST_QUESTION, LONGEST_SAVED_REPLY, Channel
from common.pages.numbers import local_number
from common.pages.requests import post_only
from common.pages.spreadsheets import csv_response
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.pages import render_page

# How many rows of a kind the preview shows.
ROWS_SHOWN = 20
FLAWS_SHOWN = 50
# The form carries the file as base64.
_MOST_CHARACTERS = files.MOST_BYTES * 4 // 3 + 4
_EXAMPLE = (
    (
        "When are you open?",
        "From 9 to 5, Monday to Friday.",
        "Opening hours",
        "Are you open today?",
    ),
    ("Do you ship abroad?", "Yes, to all of Europe.\nIt takes 3 to 5 days.", "Shipping", ""),
)


@channel_page()
def download_answers(
    request: HttpRequest, member: Member, channel: Channel
) -> StreamingHttpResponse:
    """Send all saved replies, in the form that the upload reads."""
    replies = list(files.list_replies(channel))
    texts = [fixed_answers.list_wordings(one) for one in replies]
    rows = (
        (one.question, one.answer, *others[1:]) for one, others in zip(replies, texts, strict=True)
    )
    columns = max([1, *(len(one) - 1 for one in texts)])
    return _csv("saved-replies.csv", columns, rows)


@channel_page()
def download_example(
    request: HttpRequest, member: Member, channel: Channel
) -> StreamingHttpResponse:
    """Send a short file to fill in."""
    return _csv("saved-replies-example.csv", 2, iter(_EXAMPLE))


def _csv(name: str, columns: int, rows: Iterator[Sequence[Any]]) -> StreamingHttpResponse:
    header = [files.QUESTION, files.ANSWER]
    header += [f"{files.WORDING} {number + 2}" for number in range(columns)]
    return csv_response(name, header, rows)


@channel_page(needs=Role.EDITOR)
def upload_answers(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Describe the file, and show what an uploaded one would change. Saves nothing."""
    if request.method != "POST":
        return _render(request, member, channel)
    uploaded = request.FILES.get("file")
    if uploaded is None:
        return _render(request, member, channel, error=_("Choose a file."), status=422)
    return _preview(request, member, channel, uploaded.read(files.MOST_BYTES + 1))


def _preview(
    request: HttpRequest, member: Member, channel: Channel, content: bytes, *, error: str = ""
) -> HttpResponse:
    try:
        rows, flaws = files.read_rows(content)
    except UnreadableFile as refusal:
        return _render(request, member, channel, error=refusal.words, status=422)
    plan = files.plan_rows(channel, rows, flaws)
    status = 409 if error else 422 if plan.flaws else 200
    return _render(request, member, channel, plan=plan, content=content, error=error, status=status)


def _render(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    *,
    plan: Plan | None = None,
    content: bytes = b"",
    error: str = "",
    status: int = 200,
) -> HttpResponse:
    bound = limits.SAVED_REPLIES
    return render_page(
        request,
        member,
        "fixed_answer_file.html",
        title=_("Upload saved replies"),
        channel=channel,
        plan=plan,
        new=plan.new[:ROWS_SHOWN] if plan else [],
        changed=plan.changed[:ROWS_SHOWN] if plan else [],
        flaws=plan.flaws[:FLAWS_SHOWN] if plan else [],
        content=base64.b64encode(content).decode(),
        error=error,
        have=bound.count(channel.account_id),
        most=bound.most(channel.account),
        most_wordings=fixed_answers.MOST_WORDINGS,
        most_rows=files.MOST_ROWS,
        longest_question=LONGEST_QUESTION,
        longest_answer=LONGEST_SAVED_REPLY,
        status=status,
    )


@channel_page(needs=Role.EDITOR)
@post_only
def save_answers(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Save a file that was shown, unless stored replies have changed since."""
    try:
        content = base64.b64decode(
            request.POST.get("content", "")[:_MOST_CHARACTERS], validate=True
        )
        rows = _rows_without_flaws(content)
    except (binascii.Error, ValueError, UnreadableFile):
        words = _("The form is damaged. Choose the file again.")
        return _render(request, member, channel, error=words, status=422)
    try:
        plan = files.save_rows(
            channel=channel,
            rows=rows,
            expected_digest=request.POST.get("digest", ""),
            actor=member.actor,
        )
    except ChannelChanged:
        words = _(
            "Nothing was saved, because saved replies have changed since. Check the file again."
        )
        return _preview(request, member, channel, content, error=words)
    except PlanLimitReached as refusal:
        return _preview(request, member, channel, content, error=refusal.sentence)
    counts = {"new": local_number(len(plan.new)), "changed": local_number(len(plan.changed))}
    messages.success(request, _("Saved: %(new)s new and %(changed)s changed replies.") % counts)
    return redirect("console:fixed_answers", channel.id)


def _rows_without_flaws(content: bytes) -> list[Row]:
    """Return all rows of a file. Raises ValueError if any is wrong, because none is left out."""
    rows, flaws = files.read_rows(content)
    if flaws:
        raise ValueError
    return rows


_ANSWERS = "channels/<uuid:channel_id>/own-answers"
urlpatterns = [
    path(f"{_ANSWERS}/saved-replies.csv", download_answers, name="fixed_answers_csv"),
    path(f"{_ANSWERS}/example.csv", download_example, name="fixed_answers_example"),
    path(f"{_ANSWERS}/upload/", upload_answers, name="upload_fixed_answers"),
    path(f"{_ANSWERS}/upload/save/", save_answers, name="save_fixed_answers"),
]

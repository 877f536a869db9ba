"""Drafts in the playground: try another prompt or model, rehearse visitors' questions, publish."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import orjson
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _

from channels import callers, catalogue, channel_changes
from channels.callers import Caller
from channels.errors import ChannelChanged
from channels.models import Channel
from channels.routes import is_demo
from common.api.errors import error_response
from common.errors import InvalidRequest
from common.money import format_credits
from common.pages.requests import post_only
from conversations.api.drafts import AskedDraft
from conversations.api.streams import stream_answer
from conversations.archive import markdown, questions
from conversations.archive.questions import Question
from conversations.chat import drafts, streaming
from conversations.chat.turns import PastTurn
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.asking import EXPECTED_ERRORS, admit
from dashboard.console.channel_forms import list_differences
from dashboard.console.channels import add_errors, words_of_conflict
from dashboard.console.navigation import console_url
from dashboard.console.playground import SESSIONS, answered, render_playground, talk_query
from dashboard.console.prompt_forms import DRAFT_FIELDS, DraftForm

MOST_QUESTIONS = 20
# There is no command line for a draft.
_FIRST = streaming.event("request", b'{"curl":""}')
# The longest conversation with a draft, in turns. The browser keeps it.
_MOST_TURNS = 50


def find_draft_caller(request: HttpRequest, channel: Channel, *, is_test: bool) -> Caller:
    """Return the channel's caller with the draft in the request. Raises InvalidRequest, Http404."""
    form = DraftForm(channel, request.POST)
    if not form.is_valid():
        errors = form.errors.get_json_data().items()
        raise InvalidRequest(
            fields={name: " ".join(one["message"] for one in found) for name, found in errors}
        )
    caller = callers.find_channel_caller(channel_id=channel.id, is_test=is_test)
    if caller is None:  # deleted since the page looked it up
        raise Http404
    data = form.cleaned_data
    terms = catalogue.find_terms(caller=caller, model_id=data["model"].model_id)
    if terms is None:  # switched off since the form was checked
        raise InvalidRequest(fields={"model": _("Choose one of the models shown here.")})
    return replace(caller, system_prompt=data["system_prompt"], model=terms, fallback=None)


def _drafted(asked: Question, **fields: Any) -> AskedDraft:
    """Return a visitor's question as a message to a draft."""
    message = asked.asked
    return AskedDraft(
        message=message.content,
        page_url=message.page_url,
        page_title=message.page_title,
        earlier=asked.earlier,
        is_draft=True,
        **fields,
    )


# --- Asking ---------------------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
@post_only
def send_to_draft(request: HttpRequest, member: Member, channel: Channel) -> HttpResponseBase:
    """Answer a message or a visitor's question with the draft, as events of POST /api/chat.

    Charges only if `mode` is exactly "live". Stores no text.
    """
    fallback_replies = channel.fallback_replies
    try:
        caller = find_draft_caller(request, channel, is_test=request.POST.get("mode") != "live")
        question = _find_question(request, channel)
        admitted = admit(
            request,
            caller,
            message=question.asked.content if question else request.POST.get("message", ""),
            session_id=f"{SESSIONS}draft",
            is_stream=True,
        )
        if question:
            asked = _drafted(question, session_id=admitted.session_id, is_stream=True)
        else:
            asked = AskedDraft(
                message=admitted.message,
                session_id=admitted.session_id,
                is_stream=True,
                is_draft=True,
                earlier=_read_turns(request.POST.get("turns", "")),
            )
        return answered(stream_answer(caller, asked), _FIRST)
    except EXPECTED_ERRORS as error:
        return error_response(request, error, fallback_replies=fallback_replies, extra={})


def _find_question(request: HttpRequest, channel: Channel) -> Question | None:
    """Return the visitor's question to ask, or None for a new message. Raises InvalidRequest."""
    if not (given := request.POST.get("question", "")):
        return None
    try:
        question = questions.find(channel=channel, message_id=uuid.UUID(given))
    except ValueError:
        question = None
    if question is None:
        rule = _("This question is gone. Show the latest questions again.")
        raise InvalidRequest(fields={"question": rule})
    return question


def _read_turns(text: str) -> list[PastTurn]:
    """Return the draft's conversation so far, as pairs in JSON. Raises InvalidRequest."""
    try:
        turns = [PastTurn(said, reply) for said, reply in orjson.loads(text or "[]")]
    except (ValueError, TypeError):
        turns = []
        is_right = False
    else:
        parts = (part for turn in turns for part in (turn.user, turn.assistant))
        is_right = len(turns) <= _MOST_TURNS and all(isinstance(part, str) for part in parts)
    if not is_right:
        rule = _("Must be at most %(count)s pairs of texts. Begin a new conversation.") % {
            "count": _MOST_TURNS
        }
        raise InvalidRequest(fields={"turns": rule})
    return turns


@channel_page(needs=Role.EDITOR)
@post_only
def list_questions(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Return visitors' latest questions, and the highest price of the draft's replies to them."""
    try:
        caller = find_draft_caller(request, channel, is_test=False)
        most = _read_count(request.POST.get("count", ""))
    except InvalidRequest as error:
        return error_response(request, error, fallback_replies={}, extra={})
    latest = questions.list_latest(channel=channel, most=most, not_from=SESSIONS)
    asked = [questions.describe(message) for message in latest]
    # Until a provider is set up, the demo answers for free.
    is_free = is_demo(member.catalogue_mark)
    highest = 0 if is_free else sum(drafts.highest_price(caller, _drafted(one)) for one in asked)
    rows = [
        {
            "id": str(one.asked.id),
            "question": one.asked.content,
            "reply": one.reply,
            "html": markdown.render(one.reply),
            "asked_at": f"{one.asked.created_at:%Y-%m-%d %H:%M}",
        }
        for one in asked
    ]
    response = JsonResponse({"questions": rows, "highest": format_credits(highest)})
    response["Cache-Control"] = "no-store"
    return response


def _read_count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 2 and 1 <= int(text) <= MOST_QUESTIONS:
        return int(text)
    rule = _("Enter a number from 1 to %(most)s.") % {"most": MOST_QUESTIONS}
    raise InvalidRequest(fields={"count": rule})


# --- Publishing -----------------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
@post_only
def publish_draft(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Make the draft the channel's prompt and model, unless somebody has changed them since."""
    form = DraftForm(channel, request.POST)
    if not form.is_valid():
        return render_playground(request, member, channel, form, status=422)
    try:
        saved = channel_changes.update_channel(
            channel_id=str(channel.id),
            actor=member.actor,
            expected_digest=form.cleaned_data["digest"],
            prompt_note="From the playground",
            **{name: form.cleaned_data[name] for name in DRAFT_FIELDS},
        )
    except ChannelChanged:
        channel = Channel.objects.select_related("model", "account__plan").get(id=channel.id)
        stored, data = DraftForm.filled(channel), request.POST.copy()
        data["digest"] = stored["digest"].value()
        form = DraftForm(channel, data)
        form.add_error(None, words_of_conflict(channel))
        both = list_differences(stored, form)
        return render_playground(request, member, channel, form, status=409, differences=both)
    except ValidationError as error:
        add_errors(form, error)
        return render_playground(request, member, channel, form, status=422)
    words = _("Published: version %(version)s with %(model)s. Visitors get it now.")
    messages.success(request, words % {"version": saved.prompt_version, "model": saved.model})
    query = talk_query(request)
    return redirect(console_url("playground", channel.id) + (f"?{query}" if query else ""))


_PLAYGROUND = "channels/<uuid:channel_id>/playground"
urlpatterns = [
    path(f"{_PLAYGROUND}/draft/", send_to_draft, name="draft_send"),
    path(f"{_PLAYGROUND}/questions/", list_questions, name="draft_questions"),
    path(f"{_PLAYGROUND}/publish/", publish_draft, name="publish_draft"),
]

"""Conversations of an account: search, read as a chat, rate, erase."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone

from channels.models import Account, Membership
from common.days import end_of, start_of
from common.money import show_credits
from common.pages.forms import PlainForm
from common.pages.requests import post_only
from conversations.archive import feedback, markdown, retention, transcripts
from conversations.archive.transcripts import Place, Search
from conversations.models import ChatSession, FailedRequest, Feedback, Message
from conversations.usage import outcomes
from conversations.usage.reports import Scope
from dashboard.console import conversation_files, trials
from dashboard.console.access import Member, member_page
from dashboard.console.filters import MOST_DAYS, FilterForm
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page
from dashboard.console.request_links import log_links
from dashboard.console.staff_view import note_reading

EDITOR = Membership.Role.EDITOR


class ConversationsForm(FilterForm):
    """The filters of the list. Empty ones do not filter."""

    text = forms.CharField(required=False, max_length=200, label="Search")
    errors_only = forms.BooleanField(required=False, label="With errors")
    thumb_down = forms.BooleanField(required=False, label="Disliked")
    field_order = ("text", "channel", "traffic", "first", "last", "errors_only", "thumb_down")

    def search(self, account: Account) -> Search:
        first, last = self.value("first"), self.value("last")
        return Search(
            account_id=account.id,
            is_test=self.is_test,
            channel_id=self.channel_id,
            starts_at=start_of(first, self.zone) if first else None,
            ends_at=end_of(last, self.zone) if last else None,
            text=self.value("text") or "",
            has_errors=bool(self.value("errors_only")),
            has_thumb_down=bool(self.value("thumb_down")),
        )


class FeedbackForm(PlainForm):
    """A rating and a note about one reply."""

    rating = forms.TypedChoiceField(choices=Feedback.Rating.choices, coerce=int)
    note = forms.CharField(required=False, max_length=2_000)


@member_page()
def conversations(request: HttpRequest, member: Member) -> HttpResponse:
    """List sessions, latest activity first."""
    form = ConversationsForm(request.GET, account=member.account)
    form.is_valid()
    search = form.search(member.account)
    note_reading(member, "first lines of conversations")
    after = Place.parse(request.GET.get("after", ""))
    page = transcripts.list_sessions(search, after=after)
    return render_page(
        request,
        member,
        "conversations.html",
        title="Conversations",
        form=form,
        search=search,
        page=page,
        rows=[(row, _errors_of(member, row.session)) for row in page.rows],
        query=form.query(),
        list_query=_list_query(request),
        next_query=form.query(after=str(page.following)) if page.following else "",
        is_first=after is None,
        # A text search is too expensive to repeat every few seconds.
        is_live=after is None and not search.looks_inside,
        scanned=transcripts.SCANNED_AT_ONCE,
        test_traffic=_test_traffic(search) if not page.rows else "",
        test_query=form.query(traffic="test"),
    )


def _errors_of(member: Member, session: ChatSession) -> str:
    """Return the link to the errors of one conversation, in the log of requests."""
    ends_at = (session.closed_at or timezone.now()) + timedelta(minutes=1)
    scope = Scope(
        account_id=member.account.id,
        starts_at=max(session.created_at, ends_at - timedelta(days=MOST_DAYS - 1)),
        ends_at=ends_at,
        channel_id=session.channel_id,
        is_test=session.is_test,
        zone=member.account.time_zone,
    )
    return log_links(member, scope, conversation=str(session.pk))["errors"]


def _test_traffic(search: Search) -> str:
    """Say which test conversations an empty list of live ones leaves out."""
    is_counted = not (search.is_test or search.looks_inside)
    return trials.describe_conversations(search) if is_counted else ""


@member_page()
def conversation(request: HttpRequest, member: Member, session_pk: int) -> HttpResponse:
    """Show one session as a chat."""
    session = _get_session(member, session_pk)
    note_reading(member, f"conversation {session.session_id}", channel=session.channel)
    before = request.GET.get("before", "")
    transcript = transcripts.get_transcript(
        session, before=int(before) if before.isdecimal() and len(before) < 10 else None
    )
    return render_page(
        request,
        member,
        "conversation.html",
        title="Conversation",
        session=session,
        transcript=transcript,
        items=[_describe(item) for item in transcript.items],
        is_live=not before and session.closed_at is None,
        ratings=Feedback.Rating.choices,
        channel_url=console_url("channel", session.channel_id),
        list_query=_list_query(request),
        own_url=_conversation_url(request, member, session_pk),
    )


def _list_query(request: HttpRequest) -> str:
    """Return the filters and the position in the list, for the URL of a conversation."""
    names = (*ConversationsForm.base_fields, "after")
    return urlencode({name: request.GET[name] for name in names if request.GET.get(name)})


def _describe(item: Message | FailedRequest) -> dict[str, Any]:
    if isinstance(item, FailedRequest):
        return {"kind": "failure", "failure": item}
    if item.role == Message.Role.USER:
        return {"kind": "user", "message": item}
    return {
        "kind": "reply",
        "message": item,
        "html": markdown.render(item.content),
        "credits": show_credits(item.charged_microcredits),
        "is_own_answer": outcomes.of_reply(item.provider_name) == outcomes.SAVED_REPLY,
        "prompt_url": console_url("prompt_version", item.channel_id, item.prompt_version)
        if item.prompt_version
        else "",
        "feedback": getattr(item, "feedback", None),
    }


def _get_session(member: Member, session_pk: int) -> ChatSession:
    # SQLite raises an error for a number that no row can have.
    found = None
    if session_pk < 2**63:
        found = transcripts.find_session(account_id=member.account.id, session_pk=session_pk)
    if found is None:
        raise Http404
    return found


@member_page(needs=EDITOR)
def rate(request: HttpRequest, member: Member, message_id: uuid.UUID) -> HttpResponse:
    """Save the team's rating of a reply. A GET only redirects to the reply."""
    reply = transcripts.find_reply(account_id=member.account.id, message_id=message_id)
    if reply is None:
        raise Http404
    if request.method == "POST":
        _keep_feedback(request, member, reply)
    return redirect(f"{_conversation_url(request, member, reply.session_id)}#reply-{reply.id}")


def _keep_feedback(request: HttpRequest, member: Member, reply: Message) -> None:
    form = FeedbackForm(request.POST)
    if form.is_valid():
        feedback.rate_reply(message=reply, **form.cleaned_data, author=member.user)
        messages.success(request, "Saved your rating of this reply.")
        return
    said = " ".join(
        f"{name.title()}: {error}" for name, errors in form.errors.items() for error in errors
    )
    messages.error(request, f"Nothing was saved. {said}")


def _conversation_url(request: HttpRequest, member: Member, session_pk: int | None) -> str:
    """Return a conversation's URL with the query that leads back to the list."""
    query = _list_query(request)
    return member.url("conversation", session_pk) + (f"?{query}" if query else "")


@member_page(needs=EDITOR)
@post_only
def erase(request: HttpRequest, member: Member, session_pk: int) -> HttpResponse:
    """Erase a session's text for good, once confirmed."""
    session = _get_session(member, session_pk)
    if request.POST.get("confirm") != "yes":
        messages.error(request, "Nothing was erased: tick the box to confirm.")
    else:
        count = retention.erase_session(session=session, actor=member.actor)
        words = f"Erased the text of {count} messages; token counts and charges are kept."
        messages.success(request, words if count else "The text was already erased.")
    return redirect(_conversation_url(request, member, session_pk))


@member_page()
def export_all(request: HttpRequest, member: Member, kind: str) -> HttpResponseBase:
    """Send all sessions of the filtered list as a file."""
    form = ConversationsForm(request.GET, account=member.account)
    if not form.is_valid():
        raise Http404
    note_reading(member, f"all conversations, as {kind}")
    sessions = transcripts.iterate_transcripts(form.search(member.account))
    return conversation_files.answer(sessions, name="conversations", kind=kind)


@member_page()
def export_one(
    request: HttpRequest, member: Member, session_pk: int, kind: str
) -> HttpResponseBase:
    """Send one session as a file."""
    session = _get_session(member, session_pk)
    note_reading(member, f"conversation {session.session_id}, as {kind}", channel=session.channel)
    sessions = transcripts.with_messages([session])
    return conversation_files.answer(sessions, name=f"conversation-{session_pk}", kind=kind)


urlpatterns = [
    path("conversations/", conversations, name="conversations"),
    path("conversations/export.jsonl", export_all, {"kind": "jsonl"}, name="conversations_jsonl"),
    path("conversations/export.csv", export_all, {"kind": "csv"}, name="conversations_csv"),
    path("conversations/<int:session_pk>/", conversation, name="conversation"),
    path(
        "conversations/<int:session_pk>/export.jsonl",
        export_one, {"kind": "jsonl"}, name="conversation_jsonl",
    ),
    path(
        "conversations/<int:session_pk>/export.csv",
        export_one, {"kind": "csv"}, name="conversation_csv",
    ),
    path("conversations/<int:session_pk>/erase/", erase, name="erase_conversation"),
    path("conversations/replies/<uuid:message_id>/feedback/", rate, name="rate_reply"),
]  # fmt: skip

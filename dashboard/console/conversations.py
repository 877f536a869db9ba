"""Conversations of an account: search, read as a chat, rate, erase."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from channels.models import Account, Channel, Membership
from common.days import end_of, start_of
from common.pages.forms import PlainForm
from common.pages.numbers import local_number
from common.pages.requests import post_only
from conversations.archive import feedback, retention, sessions, transcripts
from conversations.archive.sessions import Place, Search
from conversations.models import ChatSession, Feedback, Message
from conversations.usage.reports import Scope
from dashboard.console import conversation_files, trials
from dashboard.console.access import Member, channel_page, find_channel, member_page
from dashboard.console.filters import MOST_DAYS, FilterForm
from dashboard.console.navigation import channel_tabs, console_url, url_within
from dashboard.console.pages import render_page
from dashboard.console.request_links import log_links
from dashboard.console.staff_view import note_reading
from dashboard.console.transcript_items import describe

EDITOR = Membership.Role.EDITOR
# The query of a conversation that was opened in its channel's tab, and stays there.
IN_TAB = {"in": "channel"}


class ConversationsForm(FilterForm):
    """The filters of the list. Empty ones do not filter."""

    text = forms.CharField(required=False, max_length=200, label=gettext_lazy("Search"))
    errors_only = forms.BooleanField(required=False, label=gettext_lazy("With errors"))
    thumb_down = forms.BooleanField(required=False, label=gettext_lazy("Disliked"))
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
    """A rating of a reply, or a note about it. What is not sent stays as it is."""

    rating = forms.TypedChoiceField(
        required=False, choices=Feedback.Rating.choices, coerce=int, empty_value=None
    )
    note = forms.CharField(required=False, max_length=2_000)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "note" not in self.data:
            cleaned["note"] = None
            if "rating" in cleaned and cleaned["rating"] is None:
                self.add_error("rating", _("Choose one of the options."))
        return cleaned


@member_page()
def conversations(request: HttpRequest, member: Member) -> HttpResponse:
    """List sessions, latest activity first."""
    return _render_list(request, member)


@channel_page()
def channel_conversations(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """List the sessions of one channel, as a tab of it."""
    return _render_list(request, member, channel)


def _render_list(
    request: HttpRequest, member: Member, channel: Channel | None = None
) -> HttpResponse:
    form = ConversationsForm(request.GET, account=member.account, channel=channel)
    form.is_valid()
    search = form.search(member.account)
    note_reading(member, "first lines of conversations", channel=channel)
    after = Place.parse(request.GET.get("after", ""))
    page = sessions.list_sessions(search, after=after)
    return render_page(
        request,
        member,
        "conversations.html",
        title=_("Conversations"),
        channel=channel,
        list_url=url_within(member, channel, "conversations"),
        usage_url=url_within(member, channel, "usage"),
        form=form,
        search=search,
        page=page,
        rows=[(row, _errors_of(member, row.session, tab_of=channel)) for row in page.rows],
        query=form.query(),
        without_text=form.query(text=""),
        list_query=urlencode(_filters_in(request) | (IN_TAB if channel else {})),
        next_query=form.query(after=str(page.following)) if page.following else "",
        is_first=after is None,
        # A text search is too expensive to repeat every few seconds.
        is_live=after is None and not search.looks_inside,
        scanned=sessions.SCANNED_AT_ONCE,
        test_traffic=_test_traffic(search) if not page.rows else "",
        test_url=f"?{form.query(traffic='test')}",
        has_filters=_has_filters(request, channel),
    )


def _has_filters(request: HttpRequest, channel: Channel | None) -> bool:
    """Return whether the list is filtered by more than words, and by more than its tab."""
    names = ConversationsForm.base_fields.keys() - {"text", "traffic"}
    names -= {"channel"} if channel else set()
    is_test = request.GET.get("traffic") == "test"
    return is_test or any(request.GET.get(name) for name in names)


def _errors_of(member: Member, session: ChatSession, *, tab_of: Channel | None) -> str:
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
    return log_links(member, scope, tab_of=tab_of, conversation=str(session.pk))["errors"]


def _test_traffic(search: Search) -> str:
    """Say which test conversations an empty list of live ones leaves out."""
    is_counted = not (search.is_test or search.looks_inside)
    return trials.describe_conversations(search) if is_counted else ""


@member_page()
def conversation(request: HttpRequest, member: Member, session_pk: int) -> HttpResponse:
    """Show one session as a chat."""
    session = _get_session(member, session_pk)
    note_reading(member, f"conversation {session.session_id}", channel=session.channel)
    before, list_query = request.GET.get("before", ""), _list_query(request)
    # The channel of a tab is the session's own, whatever the query says.
    channel = find_channel(request, session.channel_id)[1] if _is_in_tab(request) else None
    list_url, filters = url_within(member, channel, "conversations"), _filters_in(request)
    transcript = transcripts.get_transcript(
        session, before=int(before) if before.isdecimal() and len(before) < 10 else None
    )
    return render_page(
        request,
        member,
        "conversation.html",
        title=_("Conversation"),
        channel=channel,
        channel_tabs=channel_tabs(request, channel, active="channel_conversations")
        if channel
        else [],
        session=session,
        transcript=transcript,
        title_of_session=transcript.title or _title_without_text(session),
        items=[describe(item) for item in transcript.items],
        is_live=not before and session.closed_at is None,
        channel_url=console_url("channel", session.channel_id),
        list_query=list_query,
        list_url=list_url + (f"?{urlencode(filters)}" if filters else ""),
        own_url=_conversation_url(request, member, session_pk),
    )


def _title_without_text(session: ChatSession) -> str:
    return _("(text erased)") if session.message_count else _("(no answer yet)")


def _filters_in(request: HttpRequest) -> dict[str, str]:
    """Return the filters and the position in the list."""
    names = (*ConversationsForm.base_fields, "after")
    return {name: request.GET[name] for name in names if request.GET.get(name)}


def _is_in_tab(request: HttpRequest) -> bool:
    return request.GET.get("in") == IN_TAB["in"]


def _list_query(request: HttpRequest) -> str:
    """Return the query of a conversation's URL, which leads back to its place in the list."""
    return urlencode(_filters_in(request) | (IN_TAB if _is_in_tab(request) else {}))


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
    """Save the team's rating of a reply, or a note. A GET only redirects to the reply."""
    reply = transcripts.find_reply(account_id=member.account.id, message_id=message_id)
    if reply is None:
        raise Http404
    if request.method == "POST":
        refusal = _keep_feedback(request, member, reply)
        if not request.accepts("text/html"):  # conversations.js
            return JsonResponse({"error": refusal}, status=422 if refusal else 200)
        level = messages.ERROR if refusal else messages.SUCCESS
        messages.add_message(request, level, refusal or _("Saved your feedback on this reply."))
    return redirect(f"{_conversation_url(request, member, reply.session_id)}#reply-{reply.id}")


def _keep_feedback(request: HttpRequest, member: Member, reply: Message) -> str:
    """Store the feedback in the request. Return why not, or ''."""
    form = FeedbackForm(request.POST)
    if form.is_valid():
        feedback.rate_reply(message=reply, **form.cleaned_data, author=member.user)
        return ""
    names = {"rating": _("Rating"), "note": _("Note")}
    wrong = ((names[name], error) for name, errors in form.errors.items() for error in errors)
    sentences = " ".join(f"{name}: {error}" for name, error in wrong)
    return _("Nothing was saved. %(errors)s") % {"errors": sentences}


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
        messages.error(request, _("Nothing was erased: tick the box to confirm."))
    else:
        count = retention.erase_session(session=session, actor=member.actor)
        words = ngettext(
            "Erased the text of %(count)s messages; token counts and charges are kept.",
            "Erased the text of %(count)s messages; token counts and charges are kept.",
            count,
        ) % {"count": local_number(count)}
        messages.success(request, words if count else _("The text was already erased."))
    return redirect(_conversation_url(request, member, session_pk))


@member_page()
def export_all(request: HttpRequest, member: Member, kind: str) -> HttpResponseBase:
    """Send all sessions of the filtered list as a file."""
    form = ConversationsForm(request.GET, account=member.account)
    if not form.is_valid():
        raise Http404
    note_reading(member, f"all conversations, as {kind}")
    found = transcripts.iterate_transcripts(form.search(member.account))
    return conversation_files.answer(found, name="conversations", kind=kind)


@member_page()
def export_one(
    request: HttpRequest, member: Member, session_pk: int, kind: str
) -> HttpResponseBase:
    """Send one session as a file."""
    session = _get_session(member, session_pk)
    note_reading(member, f"conversation {session.session_id}, as {kind}", channel=session.channel)
    found = transcripts.with_messages([session])
    return conversation_files.answer(found, name=f"conversation-{session_pk}", kind=kind)


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
    path(
        "channels/<uuid:channel_id>/conversations/",
        channel_conversations,
        name="channel_conversations",
    ),
]  # fmt: skip

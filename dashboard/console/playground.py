"""The Playground of a channel: a conversation in the browser, free or paid.

A view of the console streams the answers, not the API, so no key reaches the browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlencode

import orjson
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import callers
from channels.callers import Caller
from channels.models import MAX_SYSTEM_PROMPT_CHARACTERS, Channel
from common import db
from common.api.errors import error_response
from common.errors import InvalidRequest
from common.pages.requests import post_only
from conversations.api.streams import stream_answer
from conversations.archive import markdown, transcripts
from conversations.archive.transcripts import Transcript
from conversations.chat import streaming
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.asking import EXPECTED_ERRORS, admit
from dashboard.console.channel_forms import Difference
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page
from dashboard.console.prompt_forms import DraftForm
from dashboard.console.staff_view import note_reading
from dashboard.console.transcript_items import describe
from dashboard.public_address import site_url
from dashboard.reference import snippets
from dashboard.reference.facts import SIMULATIONS

# The beginning of the playground's session ids, which no visitor has.
SESSIONS = "playground-"
_CONVERSATION = re.compile(r"[A-Za-z0-9]{8,40}")
_DONE = b"event: done\ndata: "


@channel_page()
def playground(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the conversation in the address, and a draft that equals the published prompt."""
    return render_playground(request, member, channel, DraftForm.filled(channel))


def render_playground(
    request: HttpRequest,
    member: Member,
    channel: Channel,
    form: DraftForm,
    *,
    status: int = 200,
    differences: Sequence[Difference] = (),
) -> HttpResponse:
    """Return the page with this draft."""
    talk = _find_talk(request, member, channel)
    return render_page(
        request,
        member,
        "playground.html",
        title=_("Playground"),
        channel=channel,
        simulations=SIMULATIONS,
        session_prefix=session_prefix(member),
        conversation=request.GET["conversation"] if talk else "",
        is_live=talk is not None and not talk.session.is_test,
        items=[describe(item) for item in talk.items] if talk else [],
        next_version=channel.prompt_version + 1,
        form=form,
        most=MAX_SYSTEM_PROMPT_CHARACTERS,
        differences=differences,
        theirs_url=console_url("playground", channel.id),
        status=status,
    )


def talk_query(request: HttpRequest) -> str:
    """Return the conversation in the address as a query, for the address of the playground."""
    if not _CONVERSATION.fullmatch(request.GET.get("conversation", "")):
        return ""
    mode = "live" if request.GET.get("mode") == "live" else "test"
    return urlencode({"conversation": request.GET["conversation"], "mode": mode})


def _find_talk(request: HttpRequest, member: Member, channel: Channel) -> Transcript | None:
    """Return this person's conversation in the address, while it can go on."""
    if not talk_query(request):
        return None
    session = transcripts.find_open_session(
        channel=channel,
        is_test=request.GET.get("mode") != "live",
        session_id=session_prefix(member) + request.GET["conversation"],
        now=timezone.now(),
    )
    if session is None:
        return None
    note_reading(member, f"conversation {session.session_id}", channel=channel)
    return transcripts.get_transcript(session)


def session_prefix(member: Member) -> str:
    """Return the prefix of the session ids of this person's conversations."""
    return f"{SESSIONS}{member.user.pk}-"


@channel_page(needs=Role.EDITOR)
@post_only
def send(request: HttpRequest, member: Member, channel: Channel) -> HttpResponseBase:
    """Answer a message with the events of POST /api/chat, after one that says how to repeat it.

    Charges only if `mode` is exactly "live".
    """
    is_test = request.POST.get("mode") != "live"
    caller = callers.find_channel_caller(channel_id=channel.id, is_test=is_test)
    if caller is None:  # deleted since the page looked it up
        raise Http404
    curl = _curl(request, member, caller)
    try:
        return _stream(request, member, caller, curl)
    except EXPECTED_ERRORS as error:
        # There is no command line for a message that no caller could send.
        extra = {} if isinstance(error, InvalidRequest) else {"curl": curl}
        return error_response(request, error, fallback_replies=caller.fallback_replies, extra=extra)


def _session_id(request: HttpRequest, member: Member) -> str:
    """Return an id built on the server, so that nobody can write into another conversation."""
    return session_prefix(member) + request.POST.get("conversation", "")


def _curl(request: HttpRequest, member: Member, caller: Caller) -> str:
    return snippets.curl_for(
        base_url=site_url(request),
        key="YOUR_TEST_KEY" if caller.is_test else "YOUR_LIVE_KEY",
        message=request.POST.get("message", "").strip(),
        session_id=_session_id(request, member),
        is_stream=True,
        simulate=request.POST.get("simulate", "") if caller.is_test else "",
    )


def _stream(
    request: HttpRequest, member: Member, caller: Caller, curl: str
) -> StreamingHttpResponse:
    if not _CONVERSATION.fullmatch(request.POST.get("conversation", "")):
        raise InvalidRequest(fields={"conversation": _("Must be 8 to 40 letters or digits.")})
    asked = admit(
        request,
        caller,
        message=request.POST.get("message", ""),
        session_id=_session_id(request, member),
        is_stream=True,
        simulate=request.POST.get("simulate", ""),
    )
    first = streaming.event("request", orjson.dumps({"curl": curl}))
    return answered(stream_answer(caller, asked), first)


def answered(response: HttpResponseBase, first: bytes) -> StreamingHttpResponse:
    """Return a streamed answer with this event before the others."""
    assert isinstance(response, StreamingHttpResponse), "what fails is raised"
    response.streaming_content = _events(first, iter(response))
    return response


def _events(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an answer's events, after releasing the connection that saving the log-in may hold.

    The reply as HTML comes before the event that ends it.
    """
    db.release_connection()
    yield first
    for event in rest:
        if event.startswith(_DONE):
            reply = orjson.loads(event.removeprefix(_DONE))["reply"]
            yield streaming.event("rendered", orjson.dumps({"html": markdown.render(reply)}))
        yield event


urlpatterns = [
    path("channels/<uuid:channel_id>/playground/", playground, name="playground"),
    path("channels/<uuid:channel_id>/playground/send/", send, name="playground_send"),
]

"""From a new channel to its first reply: copy the key, call, and watch the answer arrive."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import usable_keys
from channels.api_keys import IssuedKey
from channels.models import Channel
from common.pages.numbers import local_credits
from conversations.models import FailedRequest, Message
from conversations.usage import request_log
from conversations.usage.request_log import Entry
from dashboard.console.access import Member, channel_page
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page
from dashboard.console.prompt_templates import TEMPLATES
from dashboard.public_address import site_url
from dashboard.reference import snippets
from dashboard.reference.facts import ERRORS

_MEANINGS = {row.code: row for row in ERRORS}


# The page asks for the call every so many seconds, and after a minute more and more rarely.
SHORTEST_PAUSE, LONGEST_PAUSE = 2, 15
_ASKED_QUICKLY_SECONDS = 60


@channel_page()
def start(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show how to make the first call, and its answer once it is there."""
    return render_start(request, member, channel)


def render_start(
    request: HttpRequest, member: Member, channel: Channel, *, fresh: tuple[IssuedKey, ...] = ()
) -> HttpResponse:
    """Return the page. Shows `fresh` keys in clear text, in this one response only."""
    keys = usable_keys.usable_keys(timezone.now()).filter(channel=channel)
    # The live key first: it is what a site needs.
    keys = keys.order_by("mode", "-created_at", "id")
    clear = next((issued.clear for issued in fresh if issued.record.mode == "live"), "")
    command = snippets.get_snippet(
        "curl",
        "chat",
        base_url=site_url(request),
        key=clear or snippets.KEY_PLACEHOLDER,
        model=channel.model.model_id,
    )
    response = render_page(
        request,
        member,
        "start.html",
        title=_("First call"),
        channel=channel,
        fresh=fresh,
        key=keys.first(),
        command=command.text,
        start_url=console_url("start", channel.id),
        templates=TEMPLATES,
        **_waiting(request),
        **_newest_call(member, channel),
    )
    response["Cache-Control"] = "no-store"
    return response


def _waiting(request: HttpRequest) -> dict[str, Any]:
    """Return how long the page pauses before it asks again, and will have waited then (seconds)."""
    given = request.GET.get("waited", "")
    waited = int(given) if given.isascii() and given.isdecimal() and len(given) < 7 else 0
    pause = SHORTEST_PAUSE
    if waited >= _ASKED_QUICKLY_SECONDS:
        pause = min(LONGEST_PAUSE, waited // 30)
    return {"pause": pause, "waited": waited + pause}


def _newest_call(member: Member, channel: Channel) -> dict[str, Any]:
    """Return the channel's newest reply, or without any, its newest failure."""
    replies = Message.objects.filter(channel=channel, role=Message.Role.ASSISTANT)
    reply = replies.order_by("-created_at").first()
    if reply is not None:
        return {
            "reply": reply,
            # Staff read replies on the conversation pages, which record it.
            "text": "" if member.is_staff_view else reply.content,
            "credits": local_credits(reply.charged_microcredits),
            "request_url": member.url("request", reply.id),
        }
    failure = FailedRequest.objects.filter(channel=channel).order_by("-created_at").first()
    if failure is None:
        return {}
    entry: Entry = request_log.entry_of(failure)
    return {
        "failure": entry,
        "meaning": _MEANINGS.get(entry.error_code),
        "request_url": member.url("failed_request", failure.pk),
    }


urlpatterns = [path("channels/<uuid:channel_id>/start/", start, name="start")]

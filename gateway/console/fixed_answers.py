"""Own answers of a channel."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from channels.models import Channel
from gateway.console.access import Member, channel_page
from gateway.console.pages import render_page


@channel_page()
def fixed_answers(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show the page."""
    return render_page(request, member, "fixed_answers.html", title="Own answers", channel=channel)


urlpatterns = [path("channels/<uuid:channel_id>/own-answers/", fixed_answers, name="fixed_answers")]

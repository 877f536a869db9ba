"""The first page: the balance, and a card for each channel."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from gateway.console.access import Member, member_page
from gateway.console.pages import render_page


@member_page()
def overview(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the account at a glance."""
    return render_page(request, member, "overview.html", title="Overview")


urlpatterns = [path("", overview, name="index")]

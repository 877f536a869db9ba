"""Credits of an account."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from gateway.console.access import Member, member_page
from gateway.console.pages import render_page


@member_page()
def ledger(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the page."""
    return render_page(request, member, "ledger.html", title="Credits")


urlpatterns = [path("credits/", ledger, name="credits")]

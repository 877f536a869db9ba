"""Audit log of an account."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from gateway.console.access import Member, member_page
from gateway.console.pages import render_page


@member_page()
def audit_log(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the page."""
    return render_page(request, member, "audit_log.html", title="Audit log")


urlpatterns = [path("audit-log/", audit_log, name="audit_log")]

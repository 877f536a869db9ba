"""The button «Test route»."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone

from channels import breaker, probes, route_tests
from channels.models import Route, RouteHealth
from gateway.staff.pages import render_staff_page, staff_page, staff_url


@staff_page("channels.change_route")
def test_route(request: HttpRequest, route_id: int) -> HttpResponseBase:
    """Say what a test does; when it is asked for by POST, make the call and show how it went."""
    route = get_object_or_404(Route.objects.select_related("model", "provider"), id=route_id)
    result = route_tests.try_route(route) if request.method == "POST" else None
    return render_staff_page(
        request,
        "test_route.html",
        title="Test a route",
        route=route,
        result=result,
        question=probes.QUESTION,
        health=describe_breaker(route),
        back_url=staff_url("channels_route_changelist"),
    )


def describe_breaker(route: Route) -> str:
    """Say what the breaker knows of a route."""
    health = RouteHealth.objects.filter(
        provider_name=route.provider.name, provider_model=route.provider_model
    ).first()
    return breaker.state_of(health, now=timezone.now()) if health else "closed"

"""The button “Test route”."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import breaker, probes, route_tests, routes
from channels.admin.catalogue import environment_address, words_of_breaker
from channels.models import LanguageModel, Provider, Route, RouteHealth
from channels.route_tests import Result
from dashboard.staff.pages import render_staff_page, staff_page, staff_url


@staff_page("channels.change_route")
def test_route(request: HttpRequest, route_id: int) -> HttpResponseBase:
    """Explain the test. On POST, make the call and show the result."""
    route = get_object_or_404(Route.objects.select_related("model", "provider"), id=route_id)
    result = route_tests.try_route(route) if request.method == "POST" else None
    return _render(request, route, result)


@staff_page("channels.change_route")
def test_environment(request: HttpRequest) -> HttpResponseBase:
    """Do the same for the provider of PROVIDER_BASE_URL, with a choice of model."""
    address = environment_address()
    models = list(LanguageModel.objects.filter(is_enabled=True))
    wanted = request.POST.get("model")
    model = next((one for one in models if wanted in (None, one.model_id)), None)
    if not address or model is None:
        raise Http404
    # Unsaved rows, to show this like the other routes.
    provider = Provider(name=routes.DEFAULT_PROVIDER, base_url=address)
    route = Route(model=model, provider=provider, provider_model=model.model_id)
    result = route_tests.try_default(model.model_id) if request.method == "POST" else None
    return _render(request, route, result, models=models)


def _render(
    request: HttpRequest, route: Route, result: Result | None, **context: Any
) -> HttpResponseBase:
    return render_staff_page(
        request,
        "test_route.html",
        title=_("Test a route"),
        route=route,
        result=result,
        question=probes.QUESTION,
        health=describe_breaker(route),
        back_url=staff_url("channels_route_changelist"),
        **context,
    )


def describe_breaker(route: Route) -> str:
    """Say what the breaker knows about a route."""
    health = RouteHealth.objects.filter(
        provider_name=route.provider.name, provider_model=route.provider_model
    ).first()
    return words_of_breaker(breaker.state_of(health, now=timezone.now()) if health else "closed")

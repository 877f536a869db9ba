"""The page “Model lists”: what providers list, which names are missing, and models that retire."""

from __future__ import annotations

import time
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import model_moves, provider_lists
from channels.models import Channel, LanguageModel
from common.pages.admin import can_hold
from common.pages.numbers import local_number
from common.pages.requests import post_only
from dashboard.staff.pages import actor_of, render_staff_page, staff_page, staff_url

# For all lists, or all channels, together, because a person waits for the page.
DEADLINE_SECONDS = 25.0
MOST_RETIRING = 50


@staff_page("channels.view_route")
def model_lists(request: HttpRequest) -> HttpResponseBase:
    """Show what was fetched last. Asks no provider."""
    may_see_models = request.user.has_perm("channels.view_languagemodel")
    return render_staff_page(
        request,
        "model_lists.html",
        title=_("Model lists"),
        providers=provider_lists.compare(),
        retiring=_list_retiring() if may_see_models else None,
    )


def _list_retiring() -> list[dict[str, Any]]:
    """Return the models with a last day, the latest first."""
    today = timezone.now().date()
    models = LanguageModel.objects.exclude(ends_on=None).select_related("successor")
    counted = models.annotate(
        channel_count=Count("channels", distinct=True) + Count("fallback_channels", distinct=True)
    )
    movable = model_moves.count_moves()
    return [
        {
            "model": model,
            "is_over": model.is_over(today),
            "channel_count": model.channel_count,
            "movable": movable.get(model.pk, 0),
        }
        for model in counted.order_by("-ends_on", "model_id")[:MOST_RETIRING]
    ]


@staff_page("channels.change_route")
@post_only
def fetch_lists(request: HttpRequest) -> HttpResponseBase:
    """Fetch the list of one provider, or of all, and say what happened."""
    name = request.POST.get("list_of", "")
    deadline = time.monotonic() + DEADLINE_SECONDS
    found = provider_lists.fetch_lists(deadline=deadline, name=name)
    if name and not found:
        raise Http404
    failed = {one: reason for one, reason in found.items() if reason}
    fetched = [one for one in found if one not in failed]
    if fetched:
        messages.success(request, _("Fetched: %(names)s.") % {"names": ", ".join(fetched)})
    for one, reason in failed.items():
        messages.error(request, f"{one}: {provider_lists.explain(reason)}")
    if not found:
        messages.info(request, _("No provider is set up, so there is no list to fetch."))
    return redirect(staff_url("model_lists"))


@staff_page("channels.change_languagemodel")
@post_only
def move_models_back(request: HttpRequest) -> HttpResponseBase:
    """Put all channels back that the gateway moved away from a model."""
    model_pk = request.POST.get("retired_model", "")
    if not can_hold(LanguageModel._meta.pk, model_pk):
        raise Http404
    model = get_object_or_404(LanguageModel, pk=model_pk)
    if not model.is_enabled:
        said = _("Nothing was changed: %(model)s is switched off. Switch it on first.")
        messages.error(request, said % {"model": model})
        return redirect(staff_url("model_lists"))
    deadline = time.monotonic() + DEADLINE_SECONDS
    moved, kept = model_moves.move_all_back(model=model, actor=actor_of(request), deadline=deadline)
    said = _("Channels that use %(model)s again: %(count)s.")
    messages.success(request, said % {"model": model, "count": local_number(moved)})
    if kept:
        said = _("Channels whose plan no longer allows %(model)s: %(count)s.")
        messages.warning(request, said % {"model": model, "count": local_number(kept)})
    if left := model_moves.list_moves(model).count() - kept:
        said = _("Channels still to move back: %(count)s. Move them back again.")
        messages.warning(request, said % {"count": local_number(left)})
    return redirect(staff_url("model_lists"))


def count_on_retired_models() -> int:
    """Return how many channels still use a model whose last day is over."""
    today = timezone.now().date()
    on_it = Q(model__ends_on__lte=today) | Q(fallback_model__ends_on__lte=today)
    return Channel.objects.filter(on_it).count()

"""The URLs of the staff's own pages, besides those of the models.

Each view names the permission it needs.
"""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path

from dashboard.staff import (
    activity,
    codes,
    credit_requests,
    credits_desk,
    customers,
    health,
    margins,
    model_lists,
    overview,
    owner_view,
    provider_wizard,
    route_tests,
    search,
    timeline,
)

urlpatterns: list[URLPattern] = [
    path("activity/", activity.activity, name="activity"),
    path("activity/providers/", activity.providers, name="providers_state"),
    path("credits/book/", credits_desk.book, name="credits_desk"),
    path("credits/booked/", credits_desk.booked, name="credits_booked"),
    path("credits/requests/", credit_requests.list_requests, name="credit_requests"),
    path(
        "credits/requests/<int:request_id>/",
        credit_requests.decide,
        name="decide_credit_request",
    ),
    path("credits/codes/", codes.make, name="make_codes"),
    path("accounts/<int:account_id>/", customers.customer, name="customer"),
    path(
        "accounts/<int:account_id>/channels/",
        customers.customer_channels,
        name="customer_channels",
    ),
    path("accounts/<int:account_id>/timeline/", timeline.timeline, name="timeline"),
    path("accounts/<int:account_id>/view/", owner_view.start, name="view_as_owner"),
    path("providers/set-up/", provider_wizard.set_up, name="provider_wizard"),
    path("routes/<int:route_id>/test/", route_tests.test_route, name="test_route"),
    path("routes/environment/test/", route_tests.test_environment, name="test_environment"),
    path("models/", model_lists.model_lists, name="model_lists"),
    path("models/fetch/", model_lists.fetch_lists, name="fetch_model_lists"),
    path("models/move-back/", model_lists.move_models_back, name="move_models_back"),
    path("margins/", margins.margins, name="margins"),
    path("margins/margins.csv", margins.export, name="margins_csv"),
    path("health/", health.health, name="health"),
    path("health/verify/", health.verify, name="verify_now"),
    path("health/workers/", health.workers, name="ask_workers"),
]

# Replace unfold's pages of the same names. Each shows what the person may see.
_OF_EVERY_SITE: list[URLPattern] = [
    path("", overview.index, name="index"),
    path("search/", search.answer, name="search"),
]


def site_urls() -> list[URLPattern | URLResolver]:
    """Return the URLs of the staff admin, ours first. Call it after all models are registered.

    Our pages need the same log-in as those of the models.
    """
    ours = [
        path(str(page.pattern), admin.site.admin_view(page.callback), name=page.name)
        for page in (*_OF_EVERY_SITE, *urlpatterns)
    ]
    return [*ours, *admin.site.get_urls()]

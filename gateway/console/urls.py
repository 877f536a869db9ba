"""The map of the console: each module says its own addresses."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from gateway.accounts.sessions import log_out
from gateway.console import (
    accounts,
    audit_log,
    channels,
    connect,
    conversations,
    fixed_answers,
    keys,
    ledger,
    overview,
    playground,
    prompts,
    search,
    staff_view,
    team,
    usage,
)

urlpatterns: list[URLPattern | URLResolver] = [
    *overview.urlpatterns,
    *channels.urlpatterns,
    *prompts.urlpatterns,
    *keys.urlpatterns,
    *fixed_answers.urlpatterns,
    *connect.urlpatterns,
    *playground.urlpatterns,
    *usage.urlpatterns,
    *conversations.urlpatterns,
    *ledger.urlpatterns,
    *team.urlpatterns,
    *audit_log.urlpatterns,
    *accounts.urlpatterns,
    *staff_view.urlpatterns,
    path("search/", search.search, name="search"),
    # The frame links to it by the admin's name.
    path("log-out/", log_out, name="logout"),
]

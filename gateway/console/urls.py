"""The map of the console: each module says its own addresses.

A page of an account stands at `/a/<account>/…`, a page of a channel at `/channels/<channel>/…`.
"""

from __future__ import annotations

from collections.abc import Iterator

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


def _addresses(pages: list[URLPattern]) -> Iterator[URLPattern]:
    """Yield each page's address; that of an account's page twice, with the account and without.

    Both have one name: `reverse("console:usage", args=[account_id])` is the page itself, and the
    short address, without arguments, leads to it in the account chosen last.
    """
    for page in pages:
        if getattr(page.callback, "is_of_account", False):
            route = f"a/<int:account_id>/{page.pattern}"
            yield path(route, page.callback, page.default_args, name=page.name)
        yield page


# The frame's templates name their addresses as those of any admin site.
app_name = "admin"
urlpatterns: list[URLPattern | URLResolver] = [
    *_addresses(
        [
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
        ]
    ),
    # The frame links to it by the admin's name.
    path("log-out/", log_out, name="logout"),
]

"""The URLs of the console. Each module lists its own.

A page of an account is at `/a/<account>/…`, a page of a channel at `/channels/<channel>/…`.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, path

from dashboard.console import (
    account_data,
    account_keys,
    accounts,
    audit_log,
    channel_list,
    channels,
    connect,
    conversations,
    draft_log,
    first_call,
    fixed_answer_files,
    fixed_answers,
    key_forms,
    keys,
    ledger,
    overview,
    playground,
    playground_drafts,
    prompts,
    request_details,
    requests,
    search,
    spend_caps,
    staff_view,
    statements,
    team,
    usage,
)
from dashboard.login.sessions import log_out


def _addresses(pages: list[URLPattern]) -> Iterator[URLPattern]:
    """Yield each page's URL, and that of an account's page twice: with and without the account.

    Both have one name. `reverse("console:usage", args=[account_id])` is the page itself. The short
    URL, without arguments, redirects to it in the account that the person chose last.
    """
    for page in pages:
        if getattr(page.callback, "is_of_account", False):
            route = f"a/<int:account_id>/{page.pattern}"
            yield path(route, page.callback, page.default_args, name=page.name)
        yield page


# The templates of the frame use the URL names of an admin site.
app_name = "admin"
urlpatterns: list[URLPattern | URLResolver] = [
    *_addresses(
        [
            *overview.urlpatterns,
            *channel_list.urlpatterns,
            *channels.urlpatterns,
            *first_call.urlpatterns,
            *prompts.urlpatterns,
            *keys.urlpatterns,
            *key_forms.urlpatterns,
            *fixed_answer_files.urlpatterns,
            *fixed_answers.urlpatterns,
            *spend_caps.urlpatterns,
            *connect.urlpatterns,
            *playground.urlpatterns,
            *playground_drafts.urlpatterns,
            *usage.urlpatterns,
            *requests.urlpatterns,
            *draft_log.urlpatterns,
            *request_details.urlpatterns,
            *conversations.urlpatterns,
            *ledger.urlpatterns,
            *statements.urlpatterns,
            *team.urlpatterns,
            *account_keys.urlpatterns,
            *audit_log.urlpatterns,
            *account_data.urlpatterns,
            *accounts.urlpatterns,
            *staff_view.urlpatterns,
            path("search/", search.search, name="search"),
        ]
    ),
    # The frame links to it by the admin's name.
    path("log-out/", log_out, name="logout"),
]

"""How many statements and milliseconds does each page of the dashboard take?

    DATABASE_URL=... python -m bench.pages [--rounds 5] [--like usage] [--staff]

Asks for every page of the console, as the owner of the account with the most channels, and every
page of the staff, as a superuser, on the database of the settings, each with each of its filters.
`make demo-data` fills one. A page whose ids the database cannot provide is left out. Statements
include those that begin and end transactions. The time is the median wall time of the rounds, so
the machine should be quiet. Of a file it is the time of the first byte.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

MOST_STATEMENTS, MOST_MS = 15, 300
_DAYS = ("first={first}&last={last}", "traffic=test", "channel={channel_id}")
_MOMENTS = ("since={first}T00:00&until={last}T00:00", *_DAYS[1:])
_USAGE = (
    "range=24h", "range=30d", "range=own&first={first}&last={last}", "model={model}&range=30d",
    "page={page}", "traffic=test&range=30d", "channel={channel_id}&range=30d",
)  # fmt: skip
_REQUESTS = (
    *_MOMENTS, "outcome=answered", "outcome=saved_reply", "outcome=errors", "outcome=failed",
    "outcome=refused", "outcome=replayed", "code=provider_error", "model={model}", "key={key_id}",
    "conversation={session_pk}", "slower=1000", "slower=10000000", "page={page}", "q={request_id}",
    "q={message_id}", "q=nothing-has-this-id", "slower=1000&model={model}&page={page}",
    "slower=3000&outcome=answered&since={first}T00:00&until={last}T00:00",
)  # fmt: skip
_CONVERSATIONS = (
    *_DAYS, "text=parcel", "text=no-word-of-any-visitor", "errors_only=on", "thumb_down=on",
    "errors_only=on&thumb_down=on", "text=parcel&errors_only=on",
    "text=parcel&errors_only=on&thumb_down=on",
    "text=parcel&errors_only=on&first={first}&last={last}",
)  # fmt: skip
# The filters of the console's pages. Those of the staff's lists are asked of the lists themselves.
FILTERED = {
    "console:index": ("q=shop", "sort=name", "state=errors", "page=20", "tag={tag}"),
    "console:channels": (
        "q=shop", "sort=name", "state=on", "state=errors", "model={model}", "tag={tag}", "page=20",
    ),
    "console:usage": _USAGE,
    "console:channel_usage": _USAGE[:-1],
    "console:usage_days": _USAGE,
    "console:usage_pages": _USAGE,
    "console:channel_usage_pages": _USAGE[:-1],
    "console:requests": _REQUESTS,
    "console:requests_csv": ("slower=1000", "page={page}"),
    "console:channel_requests": ("slower=1000", "outcome=errors", "page={page}"),
    "console:drafts": (*_MOMENTS, "q={request_id}", "page=20"),
    "console:conversations": _CONVERSATIONS,
    "console:conversations_csv": ("text=parcel", "errors_only=on"),
    "console:channel_conversations": ("text=parcel", "errors_only=on", "thumb_down=on"),
    "console:credits": (
        "kind=charge", "kind=grant", "kind=expiry", "first_day={first}&last_day={last}",
        "before=1000",
    ),
    "console:statements": ("until={month}",),
    "console:audit_log": (
        "action=channel.created", "person=owner", "channel=shop", "channel={channel_id}",
        "first={first}&last={last}", "person=nobody-has-this-name",
    ),
    "console:fixed_answers": ("page=2",),
    "console:keys": ("page=2",),
    "console:search": (
        "s=shop", "in=switcher&s=shop", "s={request_id}", "s=nothing-has-this-id",
        "s=00000000-0000-7000-8000-000000000000",
    ),
    "admin:search": ("s=shop", "s={request_id}", "s={message_id}", "s=nothing-has-this-id"),
    "admin:margins": (
        "range=7d", "range=month", "range=before", "range=own&first={first}&last={last}",
    ),
    "admin:timeline": ("kind=grant", "kind=charge", "before=1000"),
    "admin:credits_desk": ("accounts={account_id}",),
    "admin:autocomplete": (
        "app_label=channels&model_name=channel&field_name=account&term=shop",
    ),
}  # fmt: skip
_IDS = re.compile(r"<(?:\w+:)?(\w+)>")
# Of each filter of a list.
CHOICES_OF_A_FILTER = 3
_GAPS = re.compile(r"\{(\w+)\}")
# They end a session, or call a provider.
LEFT_OUT = re.compile(r"log-?out|/leave|/test/|/fetch/|/workers/")


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one page."""

    path: str
    status: int
    statements: int
    ms: float

    @property
    def is_over(self) -> bool:
        return self.statements > MOST_STATEMENTS or self.ms > MOST_MS

    def __str__(self) -> str:
        mark = "over" if self.is_over else ""
        return f"{self.ms:8.0f} ms {self.statements:4}  {self.status}  {mark:4}  {self.path}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--like", default="", help="only pages whose path has this in it")
    parser.add_argument("--staff", action="store_true", help="only pages of the staff")
    chosen = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    import django  # the settings come first

    django.setup()
    logging.disable(logging.WARNING)  # a line for each request
    from django.core.management import call_command  # needs the settings

    call_command("collectstatic", interactive=False, verbosity=0)
    costs = [
        measure(client, path, chosen.rounds)
        for client, path in pages()
        if chosen.like in path and (not chosen.staff or path.startswith("/admin/"))
    ]
    for one in costs:
        if one.status >= 500:
            print(one)
    shown = sorted((one for one in costs if one.status == 200), key=lambda one: -one.ms)
    print(*shown, sep="\n")
    over = sum(one.is_over for one in shown)
    print(f"{len(shown)} pages; {over} take over {MOST_STATEMENTS} statements or {MOST_MS} ms.")


def measure(client: Any, path: str, rounds: int) -> Cost:
    """Return what a page takes once every cache is warm."""
    from django.db import connection  # the settings come first
    from django.test.utils import CaptureQueriesContext

    # The settings come first.
    from common import db

    response = client.get(path)
    status = response.status_code
    _receive(response)
    if status != 200:
        return Cost(path, status, 0, 0)
    db.release_connection()
    with CaptureQueriesContext(connection) as queries:
        _receive(client.get(path))
    statements = len(queries)  # before the next request empties the log
    times = []
    for _ in range(rounds):
        db.release_connection()
        begun = time.perf_counter()
        _receive(client.get(path))
        times.append(1000 * (time.perf_counter() - begun))
    db.release_connection()
    return Cost(path, status, statements, statistics.median(times))


def _receive(response: Any) -> None:
    """Wait for the first byte of a file, and receive no more of it. Other answers are complete."""
    if response.streaming:
        next(iter(response.streaming_content), None)
        response.close()


def pages() -> Iterator[tuple[Any, str]]:
    """Yield each page, and each with a filter, with the browser of somebody who may see it."""
    from django.db.models import Count  # the settings come first

    # The settings come first.
    from channels.models import Account, Membership, User

    largest = Account.objects.annotate(count=Count("channels")).order_by("-count", "id")[0]
    owner = Membership.objects.filter(account=largest, role=Membership.Role.OWNER).earliest("id")
    person, _ = User.objects.get_or_create(
        email="bench@example.com", defaults={"is_staff": True, "is_superuser": True}
    )
    ids = ids_of(largest)
    for site, browser in (("console", logged_in(owner.user)), ("admin", logged_in(person))):
        for name, path in paths_of(site, ids):
            yield browser, path
            for query in _filled(FILTERED.get(name, ()), ids):
                yield browser, f"{path}?{query}"
    for path in paths_of_lists(person):
        yield browser, path


def _filled(queries: Iterable[str], ids: dict[str, Any]) -> Iterator[str]:
    """Yield the queries of which the database has every value."""
    values = {name: quote(str(value), safe="") for name, value in ids.items()}
    for query in queries:
        if values.keys() >= set(_GAPS.findall(query)):
            yield query.format(**values)


def paths_of_lists(person: Any) -> Iterator[str]:
    """Yield each list of the staff's models with each choice of a filter, and with a search."""
    from django.contrib import admin  # the settings come first
    from django.test import RequestFactory
    from django.urls import reverse

    for model, of_model in admin.site._registry.items():
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        request = RequestFactory(headers={"host": "127.0.0.1"}).get(path)
        request.user = person
        shown = of_model.get_changelist_instance(request)
        for one in shown.filter_specs:
            for choice in list(one.choices(shown))[1 : 1 + CHOICES_OF_A_FILTER]:
                if "query_string" in choice:
                    yield f"{path}{choice['query_string']}"
        if of_model.get_search_fields(request):
            yield from (f"{path}?q=shop", f"{path}?q=nothing-has-this-name")
        if shown.multi_page:
            yield f"{path}?p=2"


def logged_in(person: Any) -> Any:
    """Return the browser of a person who has just entered the password."""
    from django.test import Client  # the settings come first

    client = Client(headers={"host": "127.0.0.1"}, raise_request_exception=False)
    client.force_login(person)
    session = client.session
    for record in session.get("account_authentication_methods", []):
        record["at"] = time.time()
    session.save()
    return client


def ids_of(account: Any) -> dict[str, Any]:
    """Return values for the ids in the addresses, of rows that belong to the account."""
    from django.utils import timezone  # the settings come first

    # The settings come first.
    from channels import tags
    from channels.models import AccountKey, ApiKey, FixedAnswer
    from conversations.models import FailedRequest, Message, ReplayedRequest

    replies = Message.objects.filter(channel__account=account, role="assistant")
    reply = replies.exclude(session=None).latest("created_at")
    of_channel = {"channel_id": reply.channel_id}
    rows = {
        "key_id": ApiKey.objects.filter(**of_channel),
        "account_key_id": AccountKey.objects.filter(account=account),
        "failure_pk": FailedRequest.objects.filter(channel__account=account),
        "replay_pk": ReplayedRequest.objects.filter(channel__account=account),
        "answer_id": FixedAnswer.objects.filter(**of_channel),
    }
    found: dict[str, Any] = {
        name: some.values_list("pk", flat=True).first() for name, some in rows.items()
    }
    question = Message.objects.filter(session=reply.session_id, position=reply.position - 1)
    now = timezone.now()
    found |= {
        "account_id": account.id,
        "message_id": reply.id,
        "session_pk": reply.session_id,
        "request_id": reply.request_id,
        "model": reply.request_model,
        "page": question.values_list("page_url", flat=True).first(),
        "month": f"{now:%Y-%m}",
        "first": f"{now - timedelta(days=20):%Y-%m-%d}",
        "last": f"{now - timedelta(days=2):%Y-%m-%d}",
        "tag": next(iter(tags.list_tags(account.id)), None),
        "number": 1,
    }
    return {name: value for name, value in (found | of_channel).items() if value is not None}


def paths_of(site: str, ids: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and path of each page of a site whose ids are known."""
    from django.urls import get_resolver  # the settings come first

    seen = set()
    for name, route in _routes(get_resolver().url_patterns, ""):
        is_console = route.startswith(("a/", "channels/"))
        is_staff = route.startswith("admin/")
        if not (is_console if site == "console" else is_staff):
            continue
        values = dict(ids)
        found = re.match(r"admin/(\w+)/(\w+)/<path:object_id>/", route)
        if found and (row := _newest(*found.groups())) is not None:
            values["object_id"] = row
        needed = _IDS.findall(route)
        if not all(one in values for one in needed):
            continue
        path = "/" + _IDS.sub("{}", route).format(*(values[one] for one in needed))
        if path not in seen and not LEFT_OUT.search(path):
            seen.add(path)
            yield f"{site}:{name}", path


def _newest(app: str, model: str) -> Any:
    """Return the id of a model's newest row, or None."""
    from django.apps import apps  # the settings come first

    try:
        rows = apps.get_model(app, model)._default_manager.order_by("-pk")
    except LookupError:
        return None
    return rows.values_list("pk", flat=True).first()


def _routes(patterns: Any, before: str) -> Iterator[tuple[str, str]]:
    for one in patterns:
        route = before + str(one.pattern).lstrip("^").rstrip("$")
        if hasattr(one, "url_patterns"):
            yield from _routes(one.url_patterns, route)
        elif "(?" not in route:
            yield one.name or "", route


if __name__ == "__main__":
    main()

"""How many statements and milliseconds does each page of the dashboard take?

    DATABASE_URL=... python -m bench.pages [--rounds 5] [--like usage] [--staff]

Asks for every page of the console, as the owner of the account with the most channels, and every
page of the staff, as a superuser, on the database of the settings. `make demo-data` fills one. A
page whose ids the database cannot provide is left out. Statements include those that begin and end
transactions. The time is the median wall time of the rounds, so the machine should be quiet.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_STATEMENTS, MOST_MS = 15, 300
# Pages of which filters decide what is read.
FILTERED = {
    "console:usage": ("range=30d", "range=24h"),
    "console:usage_pages": ("range=30d",),
    "console:requests": ("outcome=errors", "code=provider_error", "slower=1000"),
    "console:channels": ("q=shop", "sort=name", "state=errors", "page=20"),
    "console:conversations": ("text=parcel", "errors_only=on"),
    "console:search": ("s=shop", "s=00000000-0000-7000-8000-000000000000"),
}
_IDS = re.compile(r"<(?:\w+:)?(\w+)>")
# They end a session or send a file as long as the data.
LEFT_OUT = re.compile(r"log-?out|/leave|\.csv|\.jsonl|\.zip|export")


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

    status = client.get(path).status_code
    if status != 200:
        return Cost(path, status, 0, 0)
    db.release_connection()
    with CaptureQueriesContext(connection) as queries:
        client.get(path)
    statements = len(queries)  # before the next request empties the log
    times = []
    for _ in range(rounds):
        db.release_connection()
        begun = time.perf_counter()
        client.get(path)
        times.append(1000 * (time.perf_counter() - begun))
    db.release_connection()
    return Cost(path, status, statements, statistics.median(times))


def pages() -> Iterator[tuple[Any, str]]:
    """Yield each page with the browser of somebody who may see it."""
    from django.db.models import Count  # the settings come first

    # The settings come first.
    from channels.models import Account, Membership, User

    largest = Account.objects.annotate(count=Count("channels")).order_by("-count", "id")[0]
    owner = Membership.objects.filter(account=largest, role=Membership.Role.OWNER).earliest("id")
    ids = ids_of(largest)
    console = logged_in(owner.user)
    for name, path in paths_of("console", ids):
        yield console, path
        for query in FILTERED.get(name, ()):
            yield console, f"{path}?{query}"
    person, _ = User.objects.get_or_create(
        email="bench@example.com", defaults={"is_staff": True, "is_superuser": True}
    )
    staff = logged_in(person)
    for _, path in paths_of("admin", ids):
        yield staff, path


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
    found |= {
        "account_id": account.id,
        "message_id": reply.id,
        "session_pk": reply.session_id,
        "month": f"{timezone.now():%Y-%m}",
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

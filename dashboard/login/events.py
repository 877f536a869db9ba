"""Security events of people: a log line, and an audit entry in each account of the person.

The owners of each account can read who logged in, from where, and what changed about a log-in that
opens their account.
"""

from __future__ import annotations

import logging
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from channels import audit
from channels.audit import Actor
from channels.models import User
from common.addresses import counted_as
from common.floods import client_address, is_first_this_minute

logger = logging.getLogger("gateway.accounts")


def actor_of(request: HttpRequest, user: User) -> Actor:
    """Return the person as the actor of audit log entries."""
    return Actor(user.email, user, client_address(request))


def log(event: str, request: HttpRequest, user: User, **fields: Any) -> None:
    """Log an action of a person. `fields` add details, never a secret."""
    address = client_address(request)
    _log(event, address=address, person=user.email, user_id=user.pk, **fields)


def record(event: str, request: HttpRequest, user: User, **fields: str) -> None:
    """Record a change to a log-in in log and audit log. `fields` add details, never a secret."""
    log(event, request, user, **fields)
    audit.record_for_person(
        event,
        actor=actor_of(request, user),
        person=user,
        changes={name: (None, value) for name, value in fields.items()},
    )


def record_failure(request: HttpRequest, name: str) -> None:
    """Record a wrong password. For an unknown name, log only how it begins."""
    user = find_person(name)
    if user is None:
        _log("login.failed", address=client_address(request), name_typed=abridged(name))
        return
    is_again = request.user.is_authenticated
    record(
        "login.confirmation_failed" if is_again else "login.failed", request, user, by="password"
    )


def record_limit(request: HttpRequest, user: User | None) -> None:
    """Log that somebody hit a limit, at most once a minute for each person or address."""
    address = client_address(request)
    who = f"user {user.pk}" if user else counted_as(address)
    if not is_first_this_minute("login.limited", who):
        return
    if user is not None:
        record("login.limited", request, user)
        return
    match = request.resolver_match
    _log("login.limited", address=address, page=match.view_name if match else "")


def find_person(name: str) -> User | None:
    """Return the person who logs in with this name."""
    return User.objects.filter(email__iexact=name.strip()).first()


def abridged(name: str) -> str:
    """Return the beginning of a typed name. Somebody may have typed a password into this field."""
    name = name.strip()
    return f"{name[:2]}… ({len(name)} characters)" if name else ""


def handler429(request: HttpRequest) -> HttpResponse:
    """Answer too many attempts with 429. allauth finds this by its name in the root URLconf."""
    record_limit(request, request.user if isinstance(request.user, User) else None)
    answer = render(request, "429.html", status=429)
    answer["Retry-After"] = "60"
    return answer


def _log(event: str, **fields: Any) -> None:
    logger.info(event, extra=fields)

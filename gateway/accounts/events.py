"""Security events of people: one line in the log, and one entry for each account concerned.

Concerned is every account in which the person is a member: its owners read who came in, from
where, and what was changed about a log-in that opens their account.
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
    """Return the person as the audit log names them."""
    return Actor(user.email, user, client_address(request))


def log(event: str, request: HttpRequest, user: User, **fields: Any) -> None:
    """Write one line about a person's deed; `fields` say more, never a secret."""
    address = client_address(request)
    _log(event, address=address, person=user.email, user_id=user.pk, **fields)


def record(event: str, request: HttpRequest, user: User, **fields: str) -> None:
    """Write down what a person did about a log-in; `fields` say more, never a secret."""
    log(event, request, user, **fields)
    audit.record_for_person(
        event,
        actor=actor_of(request, user),
        person=user,
        changes={name: (None, value) for name, value in fields.items()},
    )


def record_failure(request: HttpRequest, name: str) -> None:
    """Write down a wrong password; of a name nobody has, only how it begins."""
    user = find_person(name)
    if user is None:
        _log("login.failed", address=client_address(request), name_typed=abridged(name))
        return
    is_again = request.user.is_authenticated
    record(
        "login.confirmation_failed" if is_again else "login.failed", request, user, by="password"
    )


def record_limit(request: HttpRequest, user: User | None) -> None:
    """Log that somebody has to wait: once a minute for a person or an address."""
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
    """Return who logs in by this name."""
    return User.objects.filter(email__iexact=name.strip()).first()


def abridged(name: str) -> str:
    """Return how a typed name begins: somebody may have put a password into the wrong field."""
    name = name.strip()
    return f"{name[:2]}… ({len(name)} characters)" if name else ""


def handler429(request: HttpRequest) -> HttpResponse:
    """Answer one of too many attempts; allauth looks for it by this name in the map of the site."""
    record_limit(request, request.user if isinstance(request.user, User) else None)
    answer = render(request, "429.html", status=429)
    answer["Retry-After"] = "60"
    return answer


def _log(event: str, **fields: Any) -> None:
    logger.info(event, extra=fields)

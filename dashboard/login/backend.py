"""Loads the person behind a session, and what gate.py must know about them, in one query."""

from __future__ import annotations

from functools import cache
from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db.models import Exists, OuterRef

from channels.models import Membership, User

# Stands for a person's id in `_person_query`. No id is negative.
_PERSON = -1
_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


class PersonBackend(AuthenticationBackend):
    """allauth's backend, which checks the password. Loads two more facts about the person."""

    def get_user(self, user_id: Any) -> User | None:
        sql, params = _person_query()
        found = User.objects.raw(sql, [int(user_id) if one == _PERSON else one for one in params])
        user = next(iter(found), None)
        return user if user is not None and self.user_can_authenticate(user) else None


@cache
def _person_query() -> tuple[str, list[Any]]:
    """Return the SQL and the parameters that select a person, `_PERSON` in place of their id, with
    `has_second_factor` and `account_wants_factor`.

    Cached, because every page of a logged-in person needs this query, and Django takes longer to
    write it than the database to answer it.
    """
    factors = Authenticator.objects.filter(user=OuterRef("pk"), type__in=_FACTORS)
    wanting = Membership.objects.filter(user=OuterRef("pk"), account__requires_second_factor=True)
    people = User.objects.annotate(
        has_second_factor=Exists(factors), account_wants_factor=Exists(wanting)
    )
    sql, params = people.filter(pk=_PERSON).query.sql_with_params()
    return sql, list(params)


def lacks_second_factor(user: User) -> bool:
    """Return whether this person, loaded by PersonBackend, must set up a second factor first."""
    known: Any = user
    is_wanted = known.account_wants_factor or (user.is_staff and settings.REQUIRE_STAFF_MFA)
    return bool(is_wanted and not known.has_second_factor)

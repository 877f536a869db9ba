"""Who a session belongs to, with what the door must know of them, in one query."""

from __future__ import annotations

from functools import cache
from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from channels.models import Membership, User

_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


class PersonBackend(AuthenticationBackend):
    """allauth's, which asks for the password, reading a little more of who has logged in."""

    def get_user(self, user_id: Any) -> User | None:
        user = _people().filter(pk=user_id).first()
        return user if user is not None and self.user_can_authenticate(user) else None


@cache
def _people() -> QuerySet[User]:
    """Return people with `has_second_factor` and `account_wants_factor`; narrow it, never read it.

    Put together once, as every page of a person who has logged in asks for one of them.
    """
    factors = Authenticator.objects.filter(user=OuterRef("pk"), type__in=_FACTORS)
    wanting = Membership.objects.filter(user=OuterRef("pk"), account__requires_second_factor=True)
    return User.objects.annotate(
        has_second_factor=Exists(factors), account_wants_factor=Exists(wanting)
    )


def lacks_second_factor(user: User) -> bool:
    """Tell whether this person, as a session knows them, must set up a second factor first."""
    known: Any = user
    is_wanted = known.account_wants_factor or (user.is_staff and settings.REQUIRE_STAFF_MFA)
    return bool(is_wanted and not known.has_second_factor)

"""Who may see and do what in the console: one decorator on every view, one look-up of channels.

A view says the least role it needs and gets a `Member`, whose account is the only one it may
read. What belongs to others is answered as what does not exist: 404.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from channels.audit import Actor
from channels.models import Account, Channel, Membership, User
from common.floods import client_address

Role = Membership.Role
# What each role may do contains what those before it may.
_RANKS = {Role.VIEWER: 0, Role.EDITOR: 1, Role.OWNER: 2}
ACCOUNT_SESSION_KEY = "console_account_id"
STAFF_VIEW_SESSION_KEY = "console_staff_view_account_id"

# A guest reads whatever an owner reads: the conversations and the ledger too.
STAFF_VIEW_PERMISSIONS = (
    "channels.view_account",
    "billing.view_ledgerentry",
    "conversations.view_message",
)

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Member:
    """A person in one of their accounts; everything a view reads goes through `account`."""

    user: User
    account: Account
    role: Role
    # All accounts of the person, for the switcher.
    accounts: tuple[Account, ...]
    address: str
    # A staff member who looks at a stranger's account: may change nothing, sees no key.
    is_staff_view: bool = False

    def can(self, role: Role) -> bool:
        """Tell whether this member may do what `role` may."""
        return not self.is_staff_view and _RANKS[self.role] >= _RANKS[role]

    @property
    def can_edit(self) -> bool:
        return self.can(Role.EDITOR)

    @property
    def is_owner(self) -> bool:
        return self.can(Role.OWNER)

    @property
    def actor(self) -> Actor:
        """This member as the audit log names them."""
        return Actor(self.user.email, self.user, self.address)


MemberView = Callable[Concatenate[HttpRequest, Member, P], HttpResponseBase]
PageView = Callable[..., HttpResponseBase]


def member_page(*, needs: Role = Role.VIEWER) -> Callable[[MemberView[P]], PageView]:
    """Let in members with the role; the view gets `(request, member, ...)`."""

    def decorate(view: MemberView[P]) -> PageView:
        @login_required
        @wraps(view)
        def page(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            member = find_member(request)
            if member is None:
                return redirect("console:no_account")
            return view(request, _let_in(request, member, needs), *args, **kwargs)

        page.needs_role = needs  # type: ignore[attr-defined]  # a test asks every view for it
        return page

    return decorate


def channel_page(
    *, needs: Role = Role.VIEWER
) -> Callable[[Callable[..., HttpResponseBase]], PageView]:
    """Let in members of the account that owns `channel_id`; the view gets the channel instead.

    The view is called as `(request, member, channel, ...)`.
    """

    def decorate(view: Callable[..., HttpResponseBase]) -> PageView:
        @login_required
        @wraps(view)
        def page(
            request: HttpRequest, channel_id: uuid.UUID, *args: Any, **kwargs: Any
        ) -> HttpResponseBase:
            member, channel = find_channel(request, channel_id)
            member = _let_in(request, member, needs)
            return view(request, member, channel, *args, **kwargs)

        page.needs_role = needs  # type: ignore[attr-defined]
        return page

    return decorate


def _let_in(request: HttpRequest, member: Member, needs: Role) -> Member:
    is_write = request.method not in ("GET", "HEAD")
    if not (member.can(needs) or (member.is_staff_view and needs == Role.VIEWER and not is_write)):
        raise PermissionDenied(
            "You are looking at this account as staff: nothing can be changed from here."
            if member.is_staff_view
            else f"This needs the role «{needs.label.lower()}»; yours is "
            f"«{member.role.label.lower()}». An owner of the account can change that."
        )
    # The sidebar is made from it (navigation.py).
    request.member = member  # type: ignore[attr-defined]
    return member


def find_member(request: HttpRequest) -> Member | None:
    """Return the person in the account they are working in; None where they have none."""
    user = _user_of(request)
    staff_view = _find_staff_view(request, user)
    if staff_view is not None:
        return staff_view
    memberships = _memberships(user)
    if not memberships:
        return None
    wanted = request.session.get(ACCOUNT_SESSION_KEY)
    chosen = next((one for one in memberships if one.account_id == wanted), memberships[0])
    return _member(request, user, memberships, chosen)


def find_channel(request: HttpRequest, channel_id: uuid.UUID) -> tuple[Member, Channel]:
    """Return a channel of any of the person's accounts, and the person in that account.

    Raises Http404 for every other channel.
    """
    user = _user_of(request)
    channels = Channel.objects.select_related("model", "account__plan")
    staff_view = _find_staff_view(request, user)
    if staff_view is not None:
        own = channels.filter(id=channel_id, account_id=staff_view.account.id).first()
        if own is None:
            raise Http404
        return staff_view, own
    memberships = _memberships(user)
    by_account = {one.account_id: one for one in memberships}
    channel = channels.filter(id=channel_id, account_id__in=list(by_account)).first()
    if channel is None:
        raise Http404
    return _member(request, user, memberships, by_account[channel.account_id]), channel


def _memberships(user: User) -> list[Membership]:
    found = Membership.objects.filter(user=user).select_related("account__plan").order_by("id")
    return list(found)


def _member(
    request: HttpRequest, user: User, memberships: list[Membership], chosen: Membership
) -> Member:
    accounts = tuple(one.account for one in memberships)
    return Member(user, chosen.account, Role(chosen.role), accounts, client_address(request))


def _find_staff_view(request: HttpRequest, user: User) -> Member | None:
    """Return the staff member as a guest of the account they chose to look at, if they did."""
    account_id = request.session.get(STAFF_VIEW_SESSION_KEY)
    if account_id is None or not (user.is_staff and user.has_perms(STAFF_VIEW_PERMISSIONS)):
        return None
    account = Account.objects.select_related("plan").filter(id=account_id).first()
    if account is None:
        return None
    return Member(user, account, Role.VIEWER, (account,), client_address(request), True)


def _user_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required has seen to it
    return request.user


def switch_account(request: HttpRequest, member: Member, account_id: int) -> HttpResponseRedirect:
    """Work in another of the person's accounts from now on. Raises Http404 for others."""
    if account_id not in {account.id for account in member.accounts}:
        raise Http404
    request.session[ACCOUNT_SESSION_KEY] = account_id
    return redirect("console:index")

"""Who may see and do what in the console: the decorators of every view, and the look-ups.

A view names the lowest role it needs and gets a `Member`. It may read only that member's account.
The URL names the account, by its own id or a channel's, so that a page, its forms, and its links
stay with that account whatever another tab does (decision 0033). For everything that belongs to
others, the console answers 404, as if it did not exist.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import PermissionDenied
from django.db.models import Subquery, Value
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from channels.audit import Actor
from channels.models import Account, CatalogueVersion, Channel, Membership, User
from channels.person_mails import ROLES
from common.clock import HONEST_SKEW
from common.floods import client_address
from dashboard.login.pending import ACCOUNT_SESSION_KEY
from server.answers import Download

Role = Membership.Role
# Each role may do everything that the roles before it may.
_RANKS = {Role.VIEWER: 0, Role.EDITOR: 1, Role.OWNER: 2}
STAFF_VIEW_SESSION_KEY = "console_staff_view_account_id"
_STAFF_VIEW_BEGAN_KEY = "console_staff_view_began_at"  # seconds since 1970
STAFF_VIEW_LASTS = timedelta(minutes=60)

# A staff guest reads everything an owner reads, including conversations and the ledger.
STAFF_VIEW_PERMISSIONS = (
    "channels.view_account",
    "billing.view_ledgerentry",
    "conversations.view_message",
)

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Member:
    """A person in one of their accounts. Views read everything through `account`."""

    user: User
    account: Account
    role: Role
    # All accounts of the person, for the account switcher.
    accounts: tuple[Account, ...]
    address: str
    # Set for a staff member who looks at an account read-only, without seeing any key.
    view_ends_at: datetime | None = None
    # Of CatalogueVersion, read with the accounts because every page needs it.
    catalogue_mark: str = ""

    @property
    def is_staff_view(self) -> bool:
        """Whether a staff member looks at the account as its owner sees it."""
        return self.view_ends_at is not None

    def can(self, role: Role) -> bool:
        """Return whether this member may do what `role` may."""
        return not self.is_staff_view and _RANKS[self.role] >= _RANKS[role]

    @property
    def can_edit(self) -> bool:
        return self.can(Role.EDITOR)

    @property
    def is_owner(self) -> bool:
        return self.can(Role.OWNER)

    def url(self, name: str, *args: Any) -> str:
        """Return the URL of a page of this member's account."""
        return reverse(f"console:{name}", args=(self.account.id, *args))

    @property
    def home_url(self) -> str:
        """The account's overview, which a refusal links to."""
        return self.url("index")

    @property
    def actor(self) -> Actor:
        """This member as the actor of audit log entries."""
        return Actor(self.user.email, self.user, self.address)


MemberView = Callable[Concatenate[HttpRequest, Member, P], HttpResponseBase]
PageView = Callable[..., HttpResponseBase]


def member_page(*, needs: Role = Role.VIEWER) -> Callable[[MemberView[P]], PageView]:
    """Let in members of the account in the URL. The view gets `(request, member, ...)`.

    A short URL names no account and redirects to the account the person chose last. It accepts a
    form only from a person with a single account, because only then the account is clear.
    """

    def decorate(view: MemberView[P]) -> PageView:
        @login_required
        @wraps(view)
        def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            account_id = kwargs.pop("account_id", None)
            if (over := _leave_view_that_is_over(request)) is not None:
                return over
            member = find_member(request, account_id)
            if member is None:
                return redirect("console:no_account")
            is_clear = request.method == "POST" and len(member.accounts) == 1
            if account_id is None and not is_clear:
                return _lead_to_account(request, member)
            _let_in(request, member, view, needs)
            return _counted(view(request, member, *args, **kwargs), member)

        page.needs_role = needs  # type: ignore[attr-defined]  # a test asks every view for it
        page.is_of_account = True  # type: ignore[attr-defined]  # urls.py gives it both addresses
        return page

    return decorate


def _lead_to_account(request: HttpRequest, member: Member) -> HttpResponseRedirect:
    """Redirect to the same page in the member's account."""
    if request.method == "POST":
        messages.error(
            request,
            _(
                "Nothing was changed: the form did not say which of your accounts it was for. "
                "This is %(account)s; check that it is the one you mean, and send it again."
            )
            % {"account": member.account.name},
        )
    return redirect(f"/a/{member.account.id}{request.get_full_path()}")


def channel_page(
    *, needs: Role = Role.VIEWER
) -> Callable[[Callable[..., HttpResponseBase]], PageView]:
    """Let in members of the account that owns `channel_id`, and hand the channel to the view.

    The view is called as `(request, member, channel, ...)`.
    """

    def decorate(view: Callable[..., HttpResponseBase]) -> PageView:
        @login_required
        @wraps(view)
        def page(
            request: HttpRequest, channel_id: uuid.UUID, *args: Any, **kwargs: Any
        ) -> HttpResponseBase:
            if (over := _leave_view_that_is_over(request)) is not None:
                return over
            member, channel = find_channel(request, channel_id)
            _let_in(request, member, view, needs)
            return _counted(view(request, member, channel, *args, **kwargs), member)

        page.needs_role = needs  # type: ignore[attr-defined]
        return page

    return decorate


def _counted(response: HttpResponseBase, member: Member) -> HttpResponseBase:
    """Return the response. If it is a file in pieces, it is one of the account's downloads.

    The call gate limits the streams of answers.
    """
    is_answer = response.headers.get("Content-Type", "").startswith("text/event-stream")
    if isinstance(response, StreamingHttpResponse) and not is_answer:
        response.streaming_content = Download(iter(response), member.account.id)
    return response


def _let_in(request: HttpRequest, member: Member, view: PageView, needs: Role) -> None:
    # The sidebar needs it (navigation.py), and so does the link back on a refusal.
    request.member = member  # type: ignore[attr-defined]
    is_write = request.method not in ("GET", "HEAD")
    if not is_write and getattr(view, "is_post_only", False):
        return  # it redirects to its page, which checks its own role
    if not (member.can(needs) or (member.is_staff_view and needs == Role.VIEWER and not is_write)):
        raise PermissionDenied(
            _("You are viewing this account as staff. This view is read-only.")
            if member.is_staff_view
            else _(
                "This needs the role “%(needed)s”; yours is “%(own)s”. An owner of the account can "
                "change that."
            )
            % {"needed": ROLES[needs], "own": ROLES[member.role]}
        )


def find_member(request: HttpRequest, account_id: int | None = None) -> Member | None:
    """Return the person in the given account, or in the one they chose last.

    Returns None if they have no account. Raises Http404 for an account that is not theirs.
    """
    members = _list_members(request)
    if account_id is not None:
        if account_id not in members:
            raise Http404
        return members[account_id]
    for name in (STAFF_VIEW_SESSION_KEY, ACCOUNT_SESSION_KEY):
        if request.session.get(name) in members:
            return members[request.session[name]]
    return next(iter(members.values()), None)


def find_channel(request: HttpRequest, channel_id: uuid.UUID) -> tuple[Member, Channel]:
    """Return a channel of any of the person's accounts, and the person in that account.

    Raises Http404 for every other channel.
    """
    members = _list_members(request)
    channels = Channel.objects.select_related(
        "model__successor", "fallback_model__successor", "account__plan"
    )
    channel = channels.filter(id=channel_id, account_id__in=list(members)).first()
    if channel is None:
        raise Http404
    return members[channel.account_id], channel


def _list_members(request: HttpRequest) -> dict[int, Member]:
    """Return the person in each account they may see, by account id."""
    user = request.user
    assert isinstance(user, User)  # ensured by login_required
    address = client_address(request)
    found = Membership.objects.filter(user=user).select_related("account__plan").order_by("id")
    memberships = list(found.annotate(catalogue_mark=_mark()))
    accounts = tuple(one.account for one in memberships)
    members = {
        one.account_id: Member(
            user, one.account, Role(one.role), accounts, address, None, one.catalogue_mark
        )
        for one in memberships
    }
    viewed = _find_viewed_account(request, user)
    if viewed is not None:
        # Overrides their own membership, if any, because they came to look as staff.
        role, ends_at = Role.VIEWER, _view_ends_at(request.session)
        mark = viewed.catalogue_mark
        members[viewed.id] = Member(user, viewed, role, (viewed,), address, ends_at, mark)
    return members


def _mark() -> Coalesce:
    """Return the catalogue's mark as a column."""
    return Coalesce(Subquery(CatalogueVersion.objects.values("mark")[:1]), Value(""))


# --- Looking at an account as staff -----------------------------------------------------------


def begin_staff_view(session: SessionBase, account_id: int) -> None:
    """Let a staff member look at this account for STAFF_VIEW_LASTS from now."""
    session[STAFF_VIEW_SESSION_KEY] = account_id
    session[_STAFF_VIEW_BEGAN_KEY] = timezone.now().timestamp()


def _view_ends_at(session: SessionBase) -> datetime:
    began_at = datetime.fromtimestamp(session.get(_STAFF_VIEW_BEGAN_KEY, 0), UTC)
    return began_at + STAFF_VIEW_LASTS


def _is_view_over(session: SessionBase) -> bool:
    """Return whether the time is up, or the start is later than any correct clock could write."""
    now = timezone.now()
    return not now < _view_ends_at(session) <= now + HONEST_SKEW + STAFF_VIEW_LASTS


def _leave_view_that_is_over(request: HttpRequest) -> HttpResponseRedirect | None:
    """End a view whose time is up, once, and redirect to the page that can start it again."""
    viewed = request.session.get(STAFF_VIEW_SESSION_KEY)
    if viewed is None or not _is_view_over(request.session):
        return None
    del request.session[STAFF_VIEW_SESSION_KEY]
    minutes = STAFF_VIEW_LASTS // timedelta(minutes=1)
    words = _("Your %(minutes)s minutes as staff have ended. Start another view here.")
    messages.info(request, words % {"minutes": minutes})
    return redirect("admin:view_as_owner", viewed)


def _find_viewed_account(request: HttpRequest, user: User) -> Any:
    """Return the account that a staff member chose to look at, if they still may."""
    account_id = request.session.get(STAFF_VIEW_SESSION_KEY)
    if account_id is None or not (user.is_staff and user.has_perms(STAFF_VIEW_PERMISSIONS)):
        return None
    if _is_view_over(request.session):
        return None
    accounts = Account.objects.select_related("plan").annotate(catalogue_mark=_mark())
    return accounts.filter(id=account_id).first()

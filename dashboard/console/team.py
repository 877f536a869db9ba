"""The people in an account: members, roles, invitations. Also its name and its time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import team as services
from channels import time_zones
from channels.calendars import ChangeIsNear, Turn
from channels.errors import LastOwner, TeamRefusal
from channels.models import Account, Invitation, Membership
from common.pages.forms import PlainForm
from common.pages.requests import post_only
from dashboard.console.access import Member, Role, member_page
from dashboard.console.pages import render_page
from dashboard.login import mail
from dashboard.mail_state import has_mail_server

# What each role may do, shown beside its name.
ROLES = {
    Role.VIEWER: gettext_lazy("can see everything but change nothing"),
    Role.EDITOR: gettext_lazy("can also change channels, prompts, keys and saved replies"),
    Role.OWNER: gettext_lazy("can also manage the team and the credits"),
}


_IS_NOW = {
    Role.VIEWER: gettext_lazy("%(email)s is now viewer."),
    Role.EDITOR: gettext_lazy("%(email)s is now editor."),
    Role.OWNER: gettext_lazy("%(email)s is now owner."),
}


class InvitationForm(PlainForm):
    """Whom to invite, and with which role."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "placeholder": "name@example.com"}),
    )
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=Role.choices, initial=Role.EDITOR)


class RoleForm(PlainForm):
    """A member's new role."""

    role = forms.ChoiceField(choices=Role.choices)


class NameForm(PlainForm):
    """The name of the account."""

    name = forms.CharField(
        label=gettext_lazy("Account name"),
        max_length=100,
        help_text=gettext_lazy("Your team and the people you invite see it."),
    )


class TimeZoneForm(PlainForm):
    """The zone of the account's days, and whether the quota counts by them."""

    time_zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        max_length=time_zones.LONGEST_NAME,
        widget=forms.TextInput(attrs={"list": "gw-time-zones", "autocomplete": "off"}),
        help_text=gettext_lazy("Type a city, such as Berlin, and choose one of the names."),
    )
    has_local_quota = forms.BooleanField(
        required=False,
        label=gettext_lazy("Reset the messages of the day at midnight in this time zone, not UTC"),
    )

    def clean_time_zone(self) -> str:
        name = time_zones.find_name(self.cleaned_data["time_zone"])
        if name is None:
            raise forms.ValidationError(_(time_zones.NO_SUCH_ZONE))
        return name


@member_page()
def team(request: HttpRequest, member: Member) -> HttpResponse:
    """Show the members of the account and, to owners, its open invitations."""
    return _page(request, member)


def _page(request: HttpRequest, member: Member, **context: Any) -> HttpResponse:
    rows: dict[str, Any] = {
        "memberships": services.list_members(member.account),
        "invitations": services.list_invitations(member.account) if member.is_owner else [],
        "invitation_form": InvitationForm(),
        "name_form": NameForm(initial={"name": member.account.name}),
        "zone_form": TimeZoneForm(
            initial={
                "time_zone": member.account.time_zone,
                "has_local_quota": member.account.has_local_quota,
            }
        ),
        "zone_names": time_zones.list_names() if member.is_owner else [],
        "waiting": _list_waiting(member.account, timezone.now()),
        "roles": Role.choices,
        "role_words": [(role.label, what) for role, what in ROLES.items()],
        "now": timezone.now(),
    }
    return render_page(request, member, "team.html", title=_("Team"), **rows | context)


@member_page(needs=Role.OWNER)
@post_only
def invite(request: HttpRequest, member: Member) -> HttpResponse:
    """Invite somebody by e-mail. Without a mail server, show the link, only this once."""
    form = InvitationForm(request.POST)
    if form.is_valid():
        try:
            sent = services.invite(
                account=member.account,
                email=form.cleaned_data["email"],
                role=Role(form.cleaned_data["role"]),
                actor=member.actor,
            )
            return _deliver(request, member, sent)
        except TeamRefusal as refusal:
            form.add_error("email", str(refusal))
    return _page(request, member, invitation_form=form)


@member_page(needs=Role.OWNER)
@post_only
def invite_again(request: HttpRequest, member: Member, invitation_id: int) -> HttpResponse:
    """Send an invitation with a new link. The earlier link stops working."""
    invitation = _get_invitation(member, invitation_id)
    try:
        sent = services.renew_invitation(invitation=invitation, actor=member.actor)
    except TeamRefusal as refusal:
        messages.error(request, str(refusal))
        return redirect(member.url("team"))
    return _deliver(request, member, sent)


def _deliver(request: HttpRequest, member: Member, sent: services.SentInvitation) -> HttpResponse:
    email = sent.record.email
    if not has_mail_server():
        messages.success(request, _("%(email)s has been invited.") % {"email": email})
        # Shown only in this response, because a redirect would have to store it in the session.
        link = mail.invitation_link(request, sent.secret)
        return _page(request, member, new_link=link, new_link_email=email)
    if mail.send_invitation(request, sent.record, sent.secret):
        messages.success(
            request, _("The invitation is on its way to %(email)s.") % {"email": email}
        )
    else:
        text = _(
            "The e-mail to %(email)s could not be sent. Check the address, or try again later."
        ) % {"email": email}
        messages.error(request, text)
    return redirect(member.url("team"))


@member_page(needs=Role.OWNER)
@post_only
def withdraw(request: HttpRequest, member: Member, invitation_id: int) -> HttpResponse:
    """Withdraw an invitation."""
    invitation = _get_invitation(member, invitation_id)
    services.withdraw_invitation(invitation=invitation, actor=member.actor)
    messages.success(
        request, _("The invitation for %(email)s has been withdrawn.") % {"email": invitation.email}
    )
    return redirect(member.url("team"))


def _get_invitation(member: Member, invitation_id: int) -> Invitation:
    found = member.account.invitations.filter(id=invitation_id).select_related("account").first()
    if found is None:
        raise Http404
    return found


@member_page(needs=Role.OWNER)
@post_only
def change_role(request: HttpRequest, member: Member, membership_id: int) -> HttpResponse:
    """Change a member's role."""
    membership = _get_membership(member, membership_id)
    form = RoleForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("There is no such role."))
        return redirect(member.url("team"))
    role = Role(form.cleaned_data["role"])
    action = partial(services.change_role, membership=membership, role=role, actor=member.actor)
    done = _IS_NOW[role] % {"email": membership.user.email}
    return _try(request, member, action, done)


@member_page(needs=Role.OWNER)
@post_only
def remove(request: HttpRequest, member: Member, membership_id: int) -> HttpResponse:
    """Remove a member from the account."""
    membership = _get_membership(member, membership_id)
    done = _("%(email)s is no longer in this account.") % {"email": membership.user.email}
    return _remove(request, member, membership, done)


@member_page()
@post_only
def leave(request: HttpRequest, member: Member) -> HttpResponse:
    """Leave the account."""
    own = member.account.memberships.filter(user=member.user).first()
    if own is None:
        raise Http404
    own.account, own.user = member.account, member.user
    done = _("You have left %(account)s.") % {"account": member.account.name}
    return _remove(request, member, own, done)


def _remove(
    request: HttpRequest, member: Member, membership: Membership, done: str
) -> HttpResponse:
    is_self = membership.user_id == member.user.id
    action = partial(services.remove_member, membership=membership, actor=member.actor)
    # A person who has left continues in another of their accounts.
    return _try(request, member, action, done, then="console:index" if is_self else "")


def _get_membership(member: Member, membership_id: int) -> Membership:
    rows = member.account.memberships.select_related("user", "account")
    found = rows.filter(id=membership_id).first()
    if found is None:
        raise Http404
    return found


def _try(
    request: HttpRequest,
    member: Member,
    action: Callable[[], None],
    done: str,
    *,
    then: str = "",
) -> HttpResponse:
    try:
        action()
    except LastOwner as refusal:
        messages.error(request, str(refusal))
        return redirect(member.url("team"))
    messages.success(request, done)
    return redirect(then or member.url("team"))


@member_page(needs=Role.OWNER)
@post_only
def rename(request: HttpRequest, member: Member) -> HttpResponse:
    """Rename the account."""
    form = NameForm(request.POST)
    if not form.is_valid():
        return _page(request, member, name_form=form)
    name = form.cleaned_data["name"]
    services.rename_account(account=member.account, name=name, actor=member.actor)
    messages.success(request, _("The account is now called %(name)s.") % {"name": name})
    return redirect(member.url("team"))


@member_page(needs=Role.OWNER)
@post_only
def change_time_zone(request: HttpRequest, member: Member) -> HttpResponse:
    """Set the time zone of the account's days."""
    form = TimeZoneForm(request.POST)
    if form.is_valid():
        try:
            time_zones.set_time_zone(
                account=member.account, actor=member.actor, now=timezone.now(), **form.cleaned_data
            )
        except ChangeIsNear as near:
            form.add_error("time_zone", str(near))
    if form.errors:
        return _page(request, member, zone_form=form)
    zone = form.cleaned_data["time_zone"]
    words = _("The days of %(account)s now follow %(zone)s.")
    messages.success(request, words % {"account": member.account.name, "zone": zone})
    return redirect(member.url("team"))


def _list_waiting(account: Account, now: datetime) -> list[tuple[str, Turn]]:
    """Return which limits still count by an earlier time zone, and until when."""
    calendar = account.calendar
    counts = {
        _("Spend caps of the day"): calendar.day,
        _("Spend caps of the month"): calendar.month,
        _("The messages of the day"): calendar.quota_day,
    }
    return [(what, turn) for what, count in counts.items() if (turn := count.waiting(now))]


@member_page(needs=Role.OWNER)
@post_only
def second_factor(request: HttpRequest, member: Member) -> HttpResponse:
    """Require a second factor of every member, or stop requiring it."""
    is_required = request.POST.get("required") == "yes"
    services.require_second_factor(
        account=member.account, is_required=is_required, actor=member.actor
    )
    if is_required:
        words = _("Every member now needs a second factor in %(account)s.")
    else:
        words = _("A second factor is optional in %(account)s.")
    messages.success(request, words % {"account": member.account.name})
    return redirect(member.url("team"))


urlpatterns = [
    path("team/", team, name="team"),
    path("team/invite/", invite, name="team_invite"),
    path("team/invitations/<int:invitation_id>/again/", invite_again, name="team_invite_again"),
    path("team/invitations/<int:invitation_id>/withdraw/", withdraw, name="team_withdraw"),
    path("team/members/<int:membership_id>/role/", change_role, name="team_role"),
    path("team/members/<int:membership_id>/remove/", remove, name="team_remove"),
    path("team/leave/", leave, name="team_leave"),
    path("team/name/", rename, name="team_rename"),
    path("team/time-zone/", change_time_zone, name="team_time_zone"),
    path("team/second-factor/", second_factor, name="team_second_factor"),
]

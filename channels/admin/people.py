"""Staff pages for users, groups, memberships, invitations and plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.functional import lazy
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from channels import audit, limits
from channels.admin.auditing import BOOK_CREDITS, AuditedAdmin, actor_of
from channels.models import Invitation, Membership, Plan, User
from common.pages.admin import PlainWords, ReadOnlyAdmin, SuperuserWrites
from common.pages.forms import CreditsField
from common.pages.numbers import local_credits, local_number

admin.site.unregister(Group)


class MembershipInline(PlainWords, SuperuserWrites, TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("account",)
    tab = True


class PersonForm(UserChangeForm):
    """Unfold's form, with a link to the password page that stands out from its text."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "password" in self.fields:
            self.fields["password"].help_text = format_html(
                '{} <a class="gw-link" href="{}">{}</a>',
                _("Nobody can read it."),
                "../password/",
                _("Set a new one"),
            )


_BY_LINK = gettext_lazy("The person chooses a password through “Forgot your password?”.")


@admin.register(User)
class UserAdmin(DjangoUserAdmin, AuditedAdmin):
    form = PersonForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    secret_fields = ("password", "password1", "password2", "usable_password")
    ordering = ("email",)
    list_display = ("email", "full_name", "state", "role", "last_login", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser")
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("email", "first_name", "last_name")
    readonly_fields = ("last_login", "date_joined")
    # A plain list instead of two lists with arrows, because there are only a few groups.
    filter_horizontal = ()
    inlines = (MembershipInline,)
    fieldsets = (
        (None, {"fields": ("email", "password")}),
        (gettext_lazy("Name"), {"fields": ("first_name", "last_name")}),
        (gettext_lazy("Access"), {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        (gettext_lazy("Dates"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "usable_password", "password1", "password2")}),)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any
    ) -> type[ModelForm]:
        """Let only superusers choose a password: it would let them log in as that person."""
        if obj is None and not request.user.is_superuser:
            options |= {"form": ModelForm, "fields": ["email"]}
        form: type[ModelForm] = super().get_form(request, obj, change=change, **options)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj is None and not request.user.is_superuser:
            return ((None, {"fields": ("email",), "description": _BY_LINK}),)
        return super().get_fieldsets(request, obj)

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:
        if not change and not request.user.is_superuser:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
        if "email" in form.changed_data:
            User.objects.vouch_for(obj)

    @display(description=gettext_lazy("name"), ordering="first_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name() or "-"

    @display(description=gettext_lazy("state"), label={"Active": "success", "Locked out": "danger"})
    def state(self, user: User) -> tuple[str, str]:
        if user.is_active:
            return "Active", _("Active")
        return "Locked out", _("Locked out")

    @display(
        description=gettext_lazy("role"),
        label={"Superuser": "warning", "Staff": "info", "Customer": ""},
    )
    def role(self, user: User) -> tuple[str, str]:
        if user.is_superuser:
            return "Superuser", _("Superuser")
        return ("Staff", _("Staff")) if user.is_staff else ("Customer", _("Customer"))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Let only superusers change permissions, or an address that others could log in with."""
        fixed = super().get_readonly_fields(request, obj)
        powers = ("is_staff", "is_superuser", "groups")
        if request.user.is_superuser:
            return fixed
        return (*fixed, *powers, "email") if obj else (*fixed, *powers)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:  # noqa: A002
        """Refuse all but superusers: with a password they know, they could log in as that person.

        Other staff can send a link to choose a new one.
        """
        if not request.user.is_superuser:
            raise PermissionDenied(_("Only superusers can set someone else's password."))
        answer = super().user_change_password(request, id, form_url)
        if request.method == "POST" and answer.status_code == 302:
            audit.record_for_person(
                "password.set_by_staff",
                actor=actor_of(request),
                person=User.objects.get(pk=id),
            )
        return answer

    def note(
        self,
        request: HttpRequest,
        obj: User,
        deed: str,
        changes: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None:
        """Write the entry to the logs of the person's accounts too: it may give access to them."""
        audit.record_for_person(
            f"user.{deed}", actor=actor_of(request), person=obj, changes=changes
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let only superusers change staff users: their passwords and addresses give access."""
        return _may_touch(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_touch(request, obj) and super().has_delete_permission(request, obj)

    def get_inlines(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show memberships only for an existing user: a new one is saved first."""
        return self.inlines if obj else ()


def _may_touch(request: HttpRequest, obj: Any) -> bool:
    is_staff = isinstance(obj, User) and (obj.is_staff or obj.is_superuser)
    return request.user.is_superuser or not is_staff


@admin.register(Group)
class GroupAdmin(SuperuserWrites, AuditedAdmin, DjangoGroupAdmin):  # type: ignore[misc]  # stubs
    """Only superusers change groups: others could give themselves every permission."""

    filter_horizontal = ()


@admin.register(Membership)
class MembershipAdmin(SuperuserWrites, AuditedAdmin):
    """Only superusers change memberships: members can reveal keys and read transcripts."""

    list_display = ("account", "user", "role_badge", "created_at")
    list_filter = ("role",)
    list_select_related = ("account", "user")
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("account__name", "user__email")
    autocomplete_fields = ("account", "user")

    @display(
        description=gettext_lazy("role"),
        ordering="role",
        label={"owner": "primary", "editor": "info", "viewer": ""},
    )
    def role_badge(self, membership: Membership) -> tuple[str, str]:
        return membership.role, membership.get_role_display()


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    """Owners send and withdraw invitations. Staff see neither the link's secret nor its digest."""

    list_display = ("email", "account", "role", "created_at", "expires_at", "closed_at")
    list_filter = ("role",)
    list_select_related = ("account",)
    search_fields = ("email", "account__name")
    fields = ("account", "email", "role", "invited_by", "created_at", "expires_at", "closed_at")
    ordering = ("-id",)
    show_full_result_count = False


def _leave_empty(usual: int) -> str:
    return _("Leave empty for %(usual)s.") % {"usual": local_number(usual)}


class PlanForm(ModelForm):
    monthly_grant_microcredits = CreditsField(
        label=gettext_lazy("Credits per month"),
        help_text=gettext_lazy("Granted each UTC month and expiring at its end. 0: none."),
        widget=UnfoldAdminTextInputWidget(),
    )

    class Meta:
        model = Plan
        fields = (
            "name",
            "requests_per_minute",
            "daily_quota",
            "monthly_grant_microcredits",
            *(bound.field for bound in limits.BOUNDS),
            "models_allowed",
        )
        widgets = {"models_allowed": UnfoldAdminCheckboxSelectMultipleWidget()}
        help_texts = {bound.field: lazy(_leave_empty, str)(bound.usual) for bound in limits.BOUNDS}


@admin.register(Plan)
class PlanAdmin(AuditedAdmin):
    form = PlanForm
    list_display = ("name", "requests_per_minute", "daily_quota", "monthly_grant", "max_channels")
    fieldsets = (
        (None, {"fields": ("name", "monthly_grant_microcredits")}),
        (
            gettext_lazy("For each channel"),
            {"fields": (("requests_per_minute", "daily_quota"), "models_allowed")},
        ),
        (
            gettext_lazy("For the account as a whole"),
            {"fields": tuple(bound.field for bound in limits.BOUNDS)},
        ),
    )
    search_fields = ("name",)

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> Any:
        """Let only staff who may book credits set the monthly grant, which books them."""
        fixed = super().get_readonly_fields(request, obj)
        if request.user.has_perm(BOOK_CREDITS):
            return fixed
        return (*fixed, "monthly_grant_microcredits")

    @display(description=gettext_lazy("credits per month"), ordering="monthly_grant_microcredits")
    def monthly_grant(self, plan: Plan) -> str:
        return local_credits(plan.monthly_grant_microcredits)

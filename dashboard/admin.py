"""Staff pages of accounts and channels. They are here because they need every app."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextInputWidget

from channels import search
from channels.admin.auditing import BOOK_CREDITS, AuditedAdmin
from channels.admin.channel import ChannelAdmin
from channels.models import Account, Channel, Membership
from common.pages import dates, durations
from common.pages.admin import PlainWords, SuperuserWrites, number_from_path
from common.pages.numbers import local_credits, local_number
from dashboard.console.access import STAFF_VIEW_PERMISSIONS
from dashboard.staff.accounts import Figures, read_figures
from dashboard.staff.channel_figures import ChannelFigures, read_channel_figures
from dashboard.staff.credits_desk import MOST_ACCOUNTS, desk_url
from dashboard.staff.pages import staff_url

# What a column of the list of channels needs besides the list itself.
SEES_KEYS, SEES_TRAFFIC = "channels.view_apikey", "conversations.view_message"
_TRAFFIC = ("requests_today", "errors_today", "credits_today", "last_week", "last_used")


class AccountList(ChangeList):
    """Reads the figures only of the accounts on the page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        accounts: list[Any] = list(self.result_list)  # type: ignore[has-type]  # set by super()
        figures = read_figures([account.pk for account in accounts], now=timezone.now())
        for account in accounts:
            account.figures = figures[account.pk]
        self.result_list = accounts


class ChannelList(ChangeList):
    """Reads the figures only of the channels on the page, and no prompt."""

    def get_queryset(self, request: HttpRequest, *args: Any, **more: Any) -> QuerySet[Channel]:
        found: QuerySet[Channel] = super().get_queryset(request, *args, **more)
        return found.defer("system_prompt", "fallback_replies")

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        channels: list[Any] = list(self.result_list)  # type: ignore[has-type]  # set by super()
        figures = read_channel_figures(
            channels,
            now=timezone.now(),
            with_keys=request.user.has_perm(SEES_KEYS),
            with_activity=request.user.has_perm(SEES_TRAFFIC),
        )
        for channel, one in zip(channels, figures, strict=True):
            channel.figures = one
        self.result_list = channels


class MembershipInline(PlainWords, SuperuserWrites, TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)
    tab = True


class AccountForm(forms.ModelForm):
    """An account, and the reason for disabling it, for its members."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy(
            "Required to disable the account. Its members see this in their audit log."
        ),
    )

    class Meta:
        model = Account
        fields = ("name", "plan", "is_enabled")
        help_texts = {
            "is_enabled": gettext_lazy(
                "Off: the gateway refuses every API request with the account's keys (403 "
                "site_disabled). Replies being written are finished and charged. Its members can "
                "still log in, read and export. Nothing is deleted, and monthly grants continue."
            ),
        }

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        is_disabled = "is_enabled" in self.changed_data and not data.get("is_enabled")
        if is_disabled and self.instance.pk and not data.get("reason"):
            self.add_error("reason", _("Say why you disable the account: its members will ask."))
        return data


@admin.register(Account)
class AccountAdmin(AuditedAdmin):
    list_display = (
        "name_and_owner",
        "plan",
        "balance",
        "held",
        "channel_count",
        "requests_30_days",
        "credits_30_days",
        "state",
        "links",
    )
    list_display_links = ("name_and_owner",)
    list_filter = ("is_enabled", "plan")
    list_select_related = ("plan", "credit_account")
    list_per_page = 25
    show_full_result_count = False
    ordering = ("-id",)
    form = AccountForm
    # accounts_matching decides what is searched. This only shows the search box.
    search_fields = ("name",)
    search_help_text = gettext_lazy(
        "Name, a member's address, a channel's name, site or id, the end of a key"
    )
    fields = ("name", "end", "plan", "is_enabled", "reason", "created_at", "balance", "held")
    readonly_fields = ("end", "created_at", "balance", "held")
    inlines = (MembershipInline,)
    actions = ("book_credits",)
    actions_detail = (
        "overview",
        "add_credits",
        "deduct_credits",
        "correct_credits",
        "explain",
        "list_account_keys",
        "view_console",
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Forbid it: ledger and audit log are kept forever. Accounts are disabled instead."""
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Account], search_term: str
    ) -> tuple[QuerySet[Account], bool]:
        if not search_term:
            return queryset, False
        return queryset.filter(search.accounts_matching(search_term, request.user.has_perm)), False

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> Any:
        """Plans grant credits, so only staff who may book credits choose an account's plan."""
        fixed = super().get_readonly_fields(request, obj)
        if obj is not None and obj.deleted_at:
            fixed = (*fixed, "is_enabled")
        return fixed if request.user.has_perm(BOOK_CREDITS) else (*fixed, "plan")

    def get_fields(self, request: HttpRequest, obj: Account | None = None) -> Any:
        fields = super().get_fields(request, obj)
        is_deleted = obj is not None and obj.deleted_at is not None
        may_disable = obj is not None and self.has_change_permission(request, obj)
        shown = {"reason": may_disable and not is_deleted, "end": is_deleted}
        return [name for name in fields if shown.get(name, True)]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return AccountList

    @display(description=gettext_lazy("account"), ordering="name")
    def name_and_owner(self, account: Account) -> SafeString:
        owner = self._figures(account).owner_email or _("no owner")
        return format_html('{}<br><span class="gw-soft gw-small">{}</span>', account.name, owner)

    @display(ordering="credit_account__balance_microcredits", description=gettext_lazy("balance"))
    def balance(self, account: Account) -> str:
        credit = getattr(account, "credit_account", None)
        return local_credits(credit.balance_microcredits) if credit else "0"

    @display(ordering="credit_account__held_microcredits", description=gettext_lazy("held"))
    def held(self, account: Account) -> str:
        credit = getattr(account, "credit_account", None)
        return local_credits(credit.held_microcredits) if credit else "0"

    @display(description=gettext_lazy("channels"))
    def channel_count(self, account: Account) -> SafeString:
        address = f"{reverse('admin:channels_channel_changelist')}?account__id__exact={account.pk}"
        return format_html(
            '<a class="gw-link" href="{}">{}</a>', address, self._figures(account).channel_count
        )

    @display(description=gettext_lazy("requests, 30 days"))
    def requests_30_days(self, account: Account) -> str:
        return local_number(self._figures(account).request_count)

    @display(description=gettext_lazy("credits, 30 days"))
    def credits_30_days(self, account: Account) -> str:
        return local_credits(self._figures(account).charged_microcredits)

    @display(
        description=gettext_lazy("state"),
        label={"On": "success", "Off": "danger", "Deleted": "warning"},
    )
    def state(self, account: Account) -> tuple[str, str]:
        if account.deleted_at:
            return "Deleted", _("Deleted")
        return ("On", _("On")) if account.is_enabled else ("Off", _("Off"))

    @display(description=gettext_lazy("end"))
    def end(self, account: Account) -> str:
        assert account.deleted_at is not None  # the page shows this only then
        said = _("Deleted by its owner on %(day)s (%(owner)s).") % {
            "day": dates.show(account.deleted_at, "j M Y"),
            "owner": account.deleted_by,
        }
        return said if account.erased_at else f"{said} {_('Its texts are being erased.')}"

    @display(description=gettext_lazy("more"))
    def links(self, account: Account) -> SafeString:
        pages = (
            (staff_url("customer", account.pk), _("Overview")),
            (desk_url([account.pk]), _("Credits")),
        )
        # The account's overview leads to everything else.
        return format_html_join(" · ", '<a class="gw-link" href="{}">{}</a>', pages)

    @staticmethod
    def _figures(account: Account) -> Figures:
        found: Figures = getattr(account, "figures", None) or Figures()
        return found

    @action(description=gettext_lazy("Overview"), icon="monitoring", permissions=["view"])
    def overview(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(staff_url("customer", number_from_path(object_id)))

    # --- Credits: each of these opens a page with a preview, and books only on confirmation ------

    def has_book_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(BOOK_CREDITS)

    def has_explain_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("billing.view_ledgerentry")

    @admin.action(description=gettext_lazy("Add, deduct or correct credits"), permissions=["book"])
    def book_credits(
        self, request: HttpRequest, queryset: QuerySet[Account]
    ) -> HttpResponse | None:
        ids = list(queryset.order_by("id").values_list("id", flat=True)[: MOST_ACCOUNTS + 1])
        if len(ids) > MOST_ACCOUNTS:
            said = _("At most %(most)s accounts at once: choose fewer.") % {"most": MOST_ACCOUNTS}
            self.message_user(request, said, messages.ERROR)
            return None
        return redirect(desk_url(ids))

    @action(description=gettext_lazy("Add"), icon="add", permissions=["book"])
    def add_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(desk_url([number_from_path(object_id)], "add"))

    @action(description=gettext_lazy("Deduct"), icon="remove", permissions=["book"])
    def deduct_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(desk_url([number_from_path(object_id)], "deduct"))

    @action(description=gettext_lazy("Correct"), icon="edit", permissions=["book"])
    def correct_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(desk_url([number_from_path(object_id)], "correct"))

    @action(description=gettext_lazy("Explain"), icon="receipt_long", permissions=["explain"])
    def explain(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(staff_url("timeline", number_from_path(object_id)))

    def has_keys_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("channels.view_accountkey")

    @action(description=gettext_lazy("Account keys"), icon="vpn_key", permissions=["keys"])
    def list_account_keys(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account_id = number_from_path(object_id)
        address = reverse("admin:channels_accountkey_changelist")
        return redirect(f"{address}?account__id__exact={account_id}")

    def has_guest_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perms(STAFF_VIEW_PERMISSIONS)

    @action(description=gettext_lazy("View as owner"), icon="visibility", permissions=["guest"])
    def view_console(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(staff_url("view_as_owner", number_from_path(object_id)))


@admin.register(Channel)
class ChannelOverviewAdmin(ChannelAdmin):
    """The list shows what each channel does. Its settings are on its page."""

    list_display = ("name", "account_link", "live_key", "model", *_TRAFFIC, "state")

    class Media:
        css = {"all": ("dashboard/staff.css",)}  # as Django types it

    def get_list_display(self, request: HttpRequest) -> list[str]:
        hidden = set() if request.user.has_perm(SEES_KEYS) else {"live_key"}
        if not request.user.has_perm(SEES_TRAFFIC):
            hidden |= set(_TRAFFIC)
        return [name for name in self.list_display if name not in hidden]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ChannelList

    @display(description=gettext_lazy("account"), ordering="account__name")
    def account_link(self, channel: Channel) -> SafeString:
        url = staff_url("customer", channel.account_id)
        return format_html('<a class="gw-link" href="{}">{}</a>', url, channel.account)

    @display(description=gettext_lazy("live key"), empty_value=gettext_lazy("none"))
    def live_key(self, channel: Channel) -> SafeString | None:
        key = self._figures(channel).masked_key
        return format_html('<span class="gw-mono gw-one-line">{}</span>', key) if key else None

    @display(description=gettext_lazy("requests today"))
    def requests_today(self, channel: Channel) -> str:
        return local_number(self._figures(channel).requests_today)

    @display(description=gettext_lazy("errors today"))
    def errors_today(self, channel: Channel) -> SafeString | str:
        count = self._figures(channel).errors_today
        return (
            format_html('<span class="gw-bad-text">{}</span>', local_number(count))
            if count
            else "0"
        )

    @display(description=gettext_lazy("credits today"))
    def credits_today(self, channel: Channel) -> str:
        return self._figures(channel).credits_today

    @display(description=gettext_lazy("last 7 days"))
    def last_week(self, channel: Channel) -> SafeString:
        return format_html('<span class="gw-week">{}</span>', self._figures(channel).chart)

    @display(description=gettext_lazy("last used"), empty_value=gettext_lazy("never"))
    def last_used(self, channel: Channel) -> SafeString | None:
        used_at = self._figures(channel).last_used_at
        if used_at is None:
            return None
        return format_html(
            '<time datetime="{}" title="{} UTC">{}</time>',
            used_at.isoformat(),
            f"{used_at:%Y-%m-%d %H:%M}",
            durations.ago(used_at, timezone.now()),
        )

    @display(
        description=gettext_lazy("state"),
        ordering="is_enabled",
        label={"On": "success", "Off": "danger", "Account off": "danger"},
    )
    def state(self, channel: Channel) -> tuple[str, str]:
        if not channel.account.is_enabled:
            return "Account off", _("Account off")
        return ("On", _("On")) if channel.is_enabled else ("Off", _("Off"))

    @staticmethod
    def _figures(channel: Any) -> ChannelFigures:
        found: ChannelFigures = channel.figures
        return found

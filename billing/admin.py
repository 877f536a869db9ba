"""Staff pages of credits: balances, ledger, holds, and usage, all read-only.

Staff book credits at the credits desk (dashboard/staff), which appends its own entries.
"""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import action, display

from billing import redemptions
from billing.account_statement import signed_microcredits
from billing.models import (
    CreditAccount,
    CreditGrant,
    DailyUsage,
    Hold,
    LedgerEntry,
    RateWindow,
    RedemptionCode,
    SpendCap,
    VerificationRun,
)
from channels.admin.auditing import BOOK_CREDITS
from channels.audit import Actor
from channels.models import User
from common.floods import client_address
from common.pages.admin import BigTableAdmin, ReadOnlyAdmin, number_from_path
from common.pages.numbers import local_credits, local_number

MOST_ACCOUNTS = 500


def _desk(account_ids: list[int], deed: str = "add") -> str:
    ids = ",".join(map(str, account_ids))
    return f"{reverse('admin:credits_desk')}?accounts={ids}&deed={deed}"


@admin.register(CreditAccount)
class CreditAccountAdmin(ReadOnlyAdmin):
    list_display = ("account", "balance", "held", "available", "entry_count", "links")
    list_select_related = ("account",)
    list_per_page = 50
    show_full_result_count = False
    search_fields = ("account__name", "account__members__email")
    ordering = ("-account",)
    fields = ("account", "balance", "held", "available", "spent", "warn_below", "entry_count")
    readonly_fields = fields
    actions = ("book_credits",)
    actions_detail = ("add_credits", "deduct_credits", "correct_credits", "explain")

    @display(description=gettext_lazy("balance"), ordering="balance_microcredits")
    def balance(self, credit_account: CreditAccount) -> str:
        return local_credits(credit_account.balance_microcredits)

    @display(description=gettext_lazy("held"), ordering="held_microcredits")
    def held(self, credit_account: CreditAccount) -> str:
        return local_credits(credit_account.held_microcredits)

    @display(description=gettext_lazy("available"))
    def available(self, credit_account: CreditAccount) -> str:
        return local_credits(credit_account.balance_microcredits - credit_account.held_microcredits)

    @display(description=gettext_lazy("spent"))
    def spent(self, credit_account: CreditAccount) -> str:
        return local_credits(credit_account.spent_microcredits)

    @display(description=gettext_lazy("warn below"))
    def warn_below(self, credit_account: CreditAccount) -> str:
        return local_credits(credit_account.low_balance_microcredits)

    @display(description=gettext_lazy("more"))
    def links(self, credit_account: CreditAccount) -> SafeString:
        return format_html(
            '<a class="gw-link" href="{}">{}</a> · <a class="gw-link" href="{}">{}</a>',
            _desk([credit_account.pk]),
            _("Credits"),
            reverse("admin:timeline", args=[credit_account.pk]),
            _("Explain"),
        )

    def has_book_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm(BOOK_CREDITS)

    def has_explain_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.view_ledgerentry")

    @admin.action(description=gettext_lazy("Add, deduct or correct credits"), permissions=["book"])
    def book_credits(
        self, request: HttpRequest, queryset: QuerySet[CreditAccount]
    ) -> HttpResponse | None:
        ids = list(queryset.order_by("pk").values_list("pk", flat=True)[: MOST_ACCOUNTS + 1])
        if len(ids) > MOST_ACCOUNTS:
            said = _("At most %(most)s accounts at once.") % {"most": MOST_ACCOUNTS}
            self.message_user(request, said, "error")
            return None
        return redirect(_desk(ids))

    @action(description=gettext_lazy("Add"), icon="add", permissions=["book"])
    def add_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(_desk([number_from_path(object_id)], "add"))

    @action(description=gettext_lazy("Deduct"), icon="remove", permissions=["book"])
    def deduct_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(_desk([number_from_path(object_id)], "deduct"))

    @action(description=gettext_lazy("Correct"), icon="edit", permissions=["book"])
    def correct_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(_desk([number_from_path(object_id)], "correct"))

    @action(description=gettext_lazy("Explain"), icon="receipt_long", permissions=["explain"])
    def explain(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect("admin:timeline", number_from_path(object_id))


_KINDS = {
    LedgerEntry.Kind.GRANT: "success",
    LedgerEntry.Kind.CHARGE: "info",
    LedgerEntry.Kind.ADJUSTMENT: "warning",
    LedgerEntry.Kind.EXPIRY: "",
    LedgerEntry.Kind.ABSORBED: "danger",
}


@admin.register(LedgerEntry)
class LedgerEntryAdmin(BigTableAdmin):
    list_display = ("created_at", "owner", "badge", "change", "balance_after", "reason", "actor")
    list_filter = ("kind",)
    list_select_related = ("credit_account__account",)
    search_fields = ("credit_account__account__name", "=reference", "=request_id")
    search_help_text = gettext_lazy(
        "An account's name, a whole reference or request id, or words from a booking's reason"
    )
    ordering = ("-id",)

    def condition_for(self, term: str) -> Q:
        booked = ~Q(kind__in=(LedgerEntry.Kind.CHARGE, LedgerEntry.Kind.ABSORBED))
        return super().condition_for(term) | (booked & Q(reason__icontains=term))

    @display(description=gettext_lazy("account"))
    def owner(self, entry: LedgerEntry) -> str:
        return str(entry.credit_account.account)

    @display(description=gettext_lazy("kind"), label=_KINDS)
    def badge(self, entry: LedgerEntry) -> tuple[str, str]:
        return entry.kind, entry.get_kind_display()

    @display(description=gettext_lazy("change"))
    def change(self, entry: LedgerEntry) -> str:
        change = signed_microcredits(entry)
        return f"{'+' if change > 0 else ''}{local_credits(change)}"

    @display(description=gettext_lazy("balance after"))
    def balance_after(self, entry: LedgerEntry) -> str:
        return local_credits(entry.balance_after_microcredits)


@admin.register(Hold)
class HoldAdmin(BigTableAdmin):
    list_display = ("created_at", "account", "channel", "badge", "amount", "captured", "expires_at")
    list_filter = ("state", "is_test")
    list_select_related = ("account", "channel")
    search_fields = ("=id", "=request_id", "channel__name")
    search_help_text = gettext_lazy("A channel's name, or a whole request id")
    ordering = ("-id",)

    @display(
        description=gettext_lazy("state"),
        label={
            Hold.State.HELD: "warning",
            Hold.State.CAPTURED: "success",
            Hold.State.RELEASED: "",
            Hold.State.EXPIRED: "danger",
        },
    )
    def badge(self, hold: Hold) -> tuple[str, str]:
        return hold.state, hold.get_state_display()

    @display(description=gettext_lazy("amount"))
    def amount(self, hold: Hold) -> str:
        return local_credits(hold.amount_microcredits)

    @display(description=gettext_lazy("captured"))
    def captured(self, hold: Hold) -> str:
        return local_credits(hold.captured_microcredits)


@admin.register(DailyUsage)
class DailyUsageAdmin(BigTableAdmin):
    list_display = ("day", "channel", "is_test", "message_count")
    list_filter = ("is_test",)
    linked_filters = ("day",)
    list_select_related = ("channel",)
    search_fields = ("channel__name",)
    ordering = ("-id",)


@admin.register(CreditGrant)
class CreditGrantAdmin(BigTableAdmin):
    list_display = ("id", "owner", "badge", "amount", "remaining", "expires_at")
    list_filter = ("category",)
    list_select_related = ("credit_account__account",)
    search_fields = ("credit_account__account__name",)
    ordering = ("-id",)

    @display(description=gettext_lazy("account"))
    def owner(self, grant: CreditGrant) -> str:
        return str(grant.credit_account.account)

    @display(
        description=gettext_lazy("category"),
        label={
            CreditGrant.Category.PURCHASE: "success",
            CreditGrant.Category.PROMOTION: "info",
            CreditGrant.Category.ADJUSTMENT: "",
        },
    )
    def badge(self, grant: CreditGrant) -> tuple[str, str]:
        return grant.category, grant.get_category_display()

    @display(description=gettext_lazy("amount"), ordering="amount_microcredits")
    def amount(self, grant: CreditGrant) -> str:
        return local_credits(grant.amount_microcredits)

    @display(description=gettext_lazy("not allocated yet"), ordering="remaining_microcredits")
    def remaining(self, grant: CreditGrant) -> str:
        return local_credits(grant.remaining_microcredits)


@admin.register(VerificationRun)
class VerificationRunAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "finished_at", "entry_count", "result")
    ordering = ("-started_at",)

    @display(
        description=gettext_lazy("result"), label={"No difference": "success", "Differs": "danger"}
    )
    def result(self, run: VerificationRun) -> tuple[str, str]:
        if run.difference_count:
            said = ngettext("%(number)s difference", "%(number)s differences", run.difference_count)
            return "Differs", said % {"number": local_number(run.difference_count)}
        return "No difference", _("No difference")


@admin.register(RateWindow)
class RateWindowAdmin(ReadOnlyAdmin):
    list_display = ("channel", "bucket", "second", "total")
    list_filter = ("bucket",)
    list_select_related = ("channel",)
    search_fields = ("channel__name",)
    fields = ("channel", "bucket", "second", "total")
    show_full_result_count = False


@admin.register(SpendCap)
class SpendCapAdmin(ReadOnlyAdmin):
    list_display = ("channel", "key", "a_day", "left_today", "a_month", "left_this_month", "day")
    list_select_related = ("channel", "key")
    search_fields = ("channel__name",)
    fields = list_display
    readonly_fields = fields
    show_full_result_count = False

    @display(description=gettext_lazy("credits a day"))
    def a_day(self, cap: SpendCap) -> str:
        return _limit(cap.day_limit_microcredits)

    @display(description=gettext_lazy("left on that day"))
    def left_today(self, cap: SpendCap) -> str:
        return _left(cap.day_limit_microcredits, cap.day_left_microcredits)

    @display(description=gettext_lazy("credits a month"))
    def a_month(self, cap: SpendCap) -> str:
        return _limit(cap.month_limit_microcredits)

    @display(description=gettext_lazy("left in that month"))
    def left_this_month(self, cap: SpendCap) -> str:
        return _left(cap.month_limit_microcredits, cap.month_left_microcredits)


def _limit(limit_microcredits: int | None) -> str:
    return _("no limit") if limit_microcredits is None else local_credits(limit_microcredits)


def _left(limit_microcredits: int | None, left_microcredits: int) -> str:
    return "" if limit_microcredits is None else local_credits(left_microcredits)


@admin.register(RedemptionCode)
class RedemptionCodeAdmin(ReadOnlyAdmin):
    """Codes are created on a separate page, and switched off or on here."""

    list_display = ("ending", "amount", "redeemed", "state", "valid_until", "note", "created_by")
    list_filter = ("is_enabled",)
    list_select_related = ("created_by",)
    list_per_page = 50
    search_fields = ("code_last_four", "note")
    search_help_text = gettext_lazy("The full code, its last four letters, or words from the note.")
    ordering = ("-id",)
    show_full_result_count = False
    actions = ("disable", "enable")
    actions_list = ("make",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RedemptionCode], search_term: str
    ) -> tuple[QuerySet[RedemptionCode], bool]:
        """Also search by a whole code: only its digest is stored, which no letters match."""
        if found := redemptions.find_code(search_term):
            return queryset.filter(id=found.id), False
        results: tuple[QuerySet[RedemptionCode], bool] = super().get_search_results(
            request, queryset, search_term
        )
        return results

    @display(description=gettext_lazy("code"), ordering="code_last_four")
    def ending(self, code: RedemptionCode) -> str:
        return code.masked

    @display(description=gettext_lazy("amount"), ordering="amount_microcredits")
    def amount(self, code: RedemptionCode) -> str:
        return local_credits(code.amount_microcredits)

    @display(description=gettext_lazy("redeemed"), ordering="redeemed_count")
    def redeemed(self, code: RedemptionCode) -> str:
        return _("%(count)s of %(most)s") % {
            "count": local_number(code.redeemed_count),
            "most": local_number(code.max_redemptions),
        }

    @display(
        description=gettext_lazy("state"),
        label={"Open": "success", "Off": "danger", "Used up": "info", "Expired": "warning"},
    )
    def state(self, code: RedemptionCode) -> tuple[str, str]:
        if not code.is_enabled:
            return "Off", _("Off")
        if code.redeemed_count >= code.max_redemptions:
            return "Used up", _("Used up")
        is_over = code.valid_until and code.valid_until <= timezone.now()
        return ("Expired", _("Expired")) if is_over else ("Open", _("Open"))

    def has_make_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perms(("billing.add_redemptioncode", BOOK_CREDITS))

    def has_switch_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.change_redemptioncode")

    @action(description=gettext_lazy("Create codes"), icon="add", permissions=["make"])
    def make(self, request: HttpRequest) -> HttpResponse:
        return redirect("admin:make_codes")

    @admin.action(description=gettext_lazy("Switch the selected codes off"), permissions=["switch"])
    def disable(self, request: HttpRequest, queryset: QuerySet[RedemptionCode]) -> None:
        self._switch(request, queryset, is_enabled=False)

    def has_switch_on_permission(self, request: HttpRequest) -> bool:
        return self.has_switch_permission(request) and request.user.has_perm(BOOK_CREDITS)

    @admin.action(
        description=gettext_lazy("Switch the selected codes on"), permissions=["switch_on"]
    )
    def enable(self, request: HttpRequest, queryset: QuerySet[RedemptionCode]) -> None:
        self._switch(request, queryset, is_enabled=True)

    def _switch(
        self, request: HttpRequest, queryset: QuerySet[RedemptionCode], *, is_enabled: bool
    ) -> None:
        assert isinstance(request.user, User)
        actor = Actor(request.user.email, request.user, client_address(request))
        changed = sum(
            redemptions.set_enabled(code=code, is_enabled=is_enabled, actor=actor)
            for code in queryset
        )
        said = (
            _("Codes switched on: %(count)s.")
            if is_enabled
            else _("Codes switched off: %(count)s.")
        )
        self.message_user(request, said % {"count": changed})

"""Staff pages of credits: balances, ledger, holds and usage, all read-only."""

from __future__ import annotations

from django.contrib import admin

from billing.models import (
    CreditAccount,
    CreditGrant,
    DailyUsage,
    Hold,
    LedgerEntry,
    RateWindow,
    RedemptionCode,
    VerificationRun,
)
from common.admin import ReadOnlyAdmin
from common.money import format_credits


@admin.register(CreditAccount)
class CreditAccountAdmin(ReadOnlyAdmin):
    list_display = ("account", "balance", "held", "entry_count")
    list_select_related = ("account",)
    search_fields = ("account__name", "account__members__email")

    @admin.display(ordering="balance_microcredits")
    def balance(self, credit_account: CreditAccount) -> str:
        return format_credits(credit_account.balance_microcredits)

    @admin.display(ordering="held_microcredits")
    def held(self, credit_account: CreditAccount) -> str:
        return format_credits(credit_account.held_microcredits)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "owner", "kind", "amount", "balance_after", "reason", "actor")
    list_filter = ("kind", "created_at")
    list_select_related = ("credit_account__account",)
    search_fields = ("credit_account__account__name", "reason", "reference", "request_id")
    ordering = ("-id",)
    show_full_result_count = False

    @admin.display(description="account")
    def owner(self, entry: LedgerEntry) -> str:
        return str(entry.credit_account.account)

    @admin.display(ordering="amount_microcredits")
    def amount(self, entry: LedgerEntry) -> str:
        sign = "+" if entry.credit == "customer" else "-"
        return sign + format_credits(entry.amount_microcredits)

    @admin.display(description="balance after")
    def balance_after(self, entry: LedgerEntry) -> str:
        return format_credits(entry.balance_after_microcredits)


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "account", "channel", "state", "amount", "captured", "expires_at")
    list_filter = ("state", "is_test")
    list_select_related = ("account", "channel")
    search_fields = ("id", "request_id", "channel__name")
    ordering = ("-id",)
    show_full_result_count = False

    @admin.display(ordering="amount_microcredits")
    def amount(self, hold: Hold) -> str:
        return format_credits(hold.amount_microcredits)

    @admin.display(ordering="captured_microcredits")
    def captured(self, hold: Hold) -> str:
        return format_credits(hold.captured_microcredits)


@admin.register(DailyUsage)
class DailyUsageAdmin(ReadOnlyAdmin):
    list_display = ("day", "channel", "is_test", "message_count")
    list_filter = ("is_test", "day")
    list_select_related = ("channel",)
    search_fields = ("channel__name",)
    ordering = ("-day",)
    show_full_result_count = False


@admin.register(CreditGrant)
class CreditGrantAdmin(ReadOnlyAdmin):
    list_display = ("id", "owner", "category", "amount", "remaining", "expires_at")
    list_filter = ("category", "expires_at")
    list_select_related = ("credit_account__account",)
    search_fields = ("credit_account__account__name",)
    ordering = ("-id",)
    show_full_result_count = False

    @admin.display(description="account")
    def owner(self, grant: CreditGrant) -> str:
        return str(grant.credit_account.account)

    @admin.display(ordering="amount_microcredits")
    def amount(self, grant: CreditGrant) -> str:
        return format_credits(grant.amount_microcredits)

    @admin.display(description="not allocated yet", ordering="remaining_microcredits")
    def remaining(self, grant: CreditGrant) -> str:
        return format_credits(grant.remaining_microcredits)


@admin.register(VerificationRun)
class VerificationRunAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "finished_at", "entry_count", "difference_count")
    ordering = ("-started_at",)


@admin.register(RateWindow)
class RateWindowAdmin(ReadOnlyAdmin):
    list_display = ("channel", "bucket", "second", "total")
    list_filter = ("bucket",)
    list_select_related = ("channel",)
    search_fields = ("channel__name",)
    fields = ("channel", "bucket", "second", "total")
    show_full_result_count = False


@admin.register(RedemptionCode)
class RedemptionCodeAdmin(ReadOnlyAdmin):
    list_display = ("code", "amount", "redeemed_count", "max_redemptions", "valid_until")
    search_fields = ("code", "note")

    @admin.display(ordering="amount_microcredits")
    def amount(self, code: RedemptionCode) -> str:
        return format_credits(code.amount_microcredits)

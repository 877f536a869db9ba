"""The audit log of the whole installation."""

from __future__ import annotations

from django.contrib import admin

from channels.models import AuditEntry
from common.admin import ReadOnlyAdmin


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "actor_name", "action", "target", "account")
    list_select_related = ("account",)
    search_fields = ("actor_name", "action", "target", "account__name")
    ordering = ("-id",)
    list_per_page = 50
    show_full_result_count = False

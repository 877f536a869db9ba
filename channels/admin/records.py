"""The audit log of the whole installation."""

from __future__ import annotations

from django.contrib import admin

from channels.models import AuditEntry
from common.pages.admin import BigTableAdmin


@admin.register(AuditEntry)
class AuditEntryAdmin(BigTableAdmin):
    list_display = ("created_at", "actor_name", "action", "target", "account")
    linked_filters = ("account",)
    list_select_related = ("account",)
    search_fields = ("actor_name", "action", "target", "account__name")
    ordering = ("-id",)

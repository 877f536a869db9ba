"""The staff admin: Django's own, with what the staff must know at the top of its index."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.template.response import TemplateResponse

from billing.models import VerificationRun


class StaffSite(AdminSite):
    """The admin of the people who run the gateway."""

    site_header = site_title = "AI gateway"
    index_title = "Staff"
    index_template = "admin/staff_index.html"

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        latest = VerificationRun.objects.order_by("-started_at").first()
        return super().index(request, (extra_context or {}) | {"verification": latest})

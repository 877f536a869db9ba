"""The staff admin: Django's own, with what the staff must know at the top of its index."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.template.response import TemplateResponse

from billing.models import VerificationRun
from common import floods

# Attempts a minute, right or wrong: of one address, and for one name from anywhere.
LOG_INS_PER_ADDRESS = 20
LOG_INS_PER_NAME = 10


class GuardedLogInForm(AdminAuthenticationForm):
    """Django's, for a bounded number of attempts a minute."""

    def clean(self) -> dict[str, Any]:
        """Refuse before the password is looked at: a guesser learns nothing, at no cost."""
        name = str(self.cleaned_data.get("username", "")).lower()
        assert self.request is not None
        address = floods.client_address(self.request)
        is_allowed = floods.is_within("log-ins", address, per_minute=LOG_INS_PER_ADDRESS)
        if not is_allowed or not floods.is_within("log-ins-of", name, per_minute=LOG_INS_PER_NAME):
            raise ValidationError("Too many attempts. Wait a minute, then try again.")
        return super().clean()


class StaffSite(AdminSite):
    """The admin of the people who run the gateway."""

    site_header = site_title = "AI gateway"
    index_title = "Staff"
    index_template = "admin/staff_index.html"
    login_form = GuardedLogInForm

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        latest = VerificationRun.objects.order_by("-started_at").first()
        return super().index(request, (extra_context or {}) | {"verification": latest})

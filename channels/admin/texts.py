"""Staff pages for rows with texts that people wrote: shown only on request, and recorded.

Lists and pages of such rows leave the text out. Staff who need it give a reason, and the account's
audit log records who read what, when and why, before the page shows anything.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.utils import unquote
from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action

from channels import audit
from channels.admin.auditing import actor_of
from channels.models import Channel
from common.pages.admin import ReadOnlyAdmin
from common.pages.forms import LabelledForm


class ReasonForm(LabelledForm):
    """The reason why a staff member reads a text."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("The account's members see this in their audit log."),
    )


class TextAdmin(ReadOnlyAdmin):
    """Mixin, placed before other read-only pages. `fields` must leave the text out."""

    actions_detail = ("read_text",)

    def texts_of(self, row: Any) -> list[tuple[str, str]]:
        """Return a row's texts with their labels."""
        raise NotImplementedError

    def channel_of(self, row: Any) -> Channel:
        """Return a row's channel, whose account's audit log records the reading."""
        channel: Channel = row.channel
        return channel

    @action(description=gettext_lazy("Read text"), icon="visibility", permissions=["view"])
    def read_text(self, request: HttpRequest, object_id: str) -> TemplateResponse:
        """Ask for a reason. Then write the audit entry, and only after that show the text."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        form = ReasonForm(request.POST if request.method == "POST" else None)
        is_read = form.is_valid()
        if is_read:
            channel = self.channel_of(row)
            audit.record(
                "staff.read_text",
                actor=actor_of(request),
                account_id=channel.account_id,
                channel=channel,
                target=f"{self.opts.verbose_name_raw} {row.pk}",
                changes={"reason": (None, form.cleaned_data["reason"])},
            )
        context = self.admin_site.each_context(request) | {
            "title": _("Read text"),
            "opts": self.opts,
            "original": row,
            "form": form,
            "texts": self.texts_of(row) if is_read else None,
            "channel": self.channel_of(row),
        }
        status = 422 if form.is_bound and not is_read else 200
        return TemplateResponse(request, "staff/read_text.html", context, status=status)

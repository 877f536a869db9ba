"""Staff pages for channels, prompts and saved replies. The services make the changes."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget

from channels import channel_changes, fallbacks, fixed_answers, search
from channels.admin.auditing import AuditedAdmin, actor_of
from channels.admin.texts import ReasonForm, TextAdmin
from channels.errors import UnknownAccount
from channels.models import Channel, FixedAnswer, LanguageModel, PromptVersion

_REPLIES = {
    f"reply_{code}": forms.CharField(
        label=title,
        help_text=format_lazy(gettext_lazy("{when} Code: {code}"), when=when, code=code),
        required=False,
        max_length=fallbacks.LONGEST_REPLY,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )
    for code, title, when in fallbacks.CAUSES
}


class ChannelForm(ModelForm):
    """A form for a channel, with a separate field for each fallback reply."""

    class Meta:
        model = Channel
        fields = (
            "account",
            "name",
            "site_url",
            "is_enabled",
            "model",
            "system_prompt",
            "requests_per_minute",
            "daily_quota",
        )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for code, text in self.instance.fallback_replies.items():
            self.initial.setdefault(f"reply_{code}", text)

    def clean_model(self) -> LanguageModel:
        model: LanguageModel = self.cleaned_data["model"]
        if not model.is_enabled and model.pk != self.initial.get("model"):
            raise ValidationError(_("This model is switched off. Choose another."))
        if model.is_over(timezone.now().date()) and model.pk != self.initial.get("model"):
            raise ValidationError(_("This model has retired. Choose another."))
        return model

    def changes(self) -> dict[str, Any]:
        """Return the channel's fields that a valid form changes, with their new values."""
        changed = set(self.changed_data)
        fields = {name: self.cleaned_data[name] for name in changed - _REPLIES.keys()}
        if changed & _REPLIES.keys():
            replies = self.instance.fallback_replies | {
                code: self.cleaned_data[f"reply_{code}"] for code in fallbacks.CODES
            }
            fields["fallback_replies"] = {code: text for code, text in replies.items() if text}
        return fields


# Django's metaclass builds both from the class body, where fields cannot be added in a loop.
ChannelForm.declared_fields |= _REPLIES
ChannelForm.base_fields |= _REPLIES


class MoveForm(ReasonForm):
    """The account that a channel moves to, and the reason."""

    owner_email = forms.EmailField(
        label=gettext_lazy("E-mail address of an owner of the other account"),
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    field_order = ("owner_email", "reason")


class ChannelAdmin(AuditedAdmin):
    """Channels can be switched off here but not deleted: holds, sessions and keys refer to them.

    The dashboard registers it with figures in its list (dashboard/admin.py).
    """

    form = ChannelForm
    list_filter = ("is_enabled", "model")
    linked_filters = ("account",)
    list_select_related = ("account", "model")
    list_per_page = 50
    show_full_result_count = False
    ordering = ("-id",)
    # This only shows the search box. channels_matching decides what is searched.
    search_fields = ("name",)
    search_help_text = gettext_lazy(
        "Name, site, id, account, a member's address, or the end of a key"
    )
    autocomplete_fields = ("account",)
    actions_detail = ("move",)
    fieldsets = (
        (None, {"fields": ("account", "name", "site_url", "is_enabled", "model")}),
        (gettext_lazy("Limits"), {"fields": (("requests_per_minute", "daily_quota"),)}),
        (gettext_lazy("Prompt"), {"fields": ("system_prompt",)}),
        (
            gettext_lazy("Fallback replies"),
            {
                "classes": ("collapse",),
                "description": gettext_lazy(
                    "What a visitor sees instead of an error. Empty: they see nothing."
                ),
                "fields": tuple(_REPLIES),
            },
        ),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Channel], search_term: str
    ) -> tuple[QuerySet[Channel], bool]:
        if not search_term:
            return queryset, False
        return queryset.filter(search.channels_matching(search_term, request.user.has_perm)), False

    def get_fieldsets(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        """Show the prompt, which is the owner's text, only to superusers."""
        found = super().get_fieldsets(request, obj)
        if request.user.is_superuser:
            return found
        return [one for one in found if "system_prompt" not in one[1]["fields"]]

    def get_readonly_fields(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        """Fix the account of an existing channel. Moves have their own page."""
        fixed = super().get_readonly_fields(request, obj)
        return (*fixed, "account") if obj else fixed

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save through the services, which write the prompt's versions and the audit log."""
        actor, fields = actor_of(request), form.changes()
        if change:
            channel_changes.update_channel(
                channel_id=str(obj.pk), actor=actor, prompt_note="By staff", **fields
            )
            return
        fields |= {"account": form.cleaned_data["account"], "name": form.cleaned_data["name"]}
        model = form.cleaned_data["model"]
        fields = {name: value for name, value in fields.items() if name != "model"}
        channel_changes.create_channel(actor=actor, model_id=model.model_id, id=obj.pk, **fields)
        obj._state.adding = False

    # --- Moving -------------------------------------------------------------------------------

    def has_move_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.is_superuser)

    @action(
        description=gettext_lazy("Move to another account"), icon="move_item", permissions=["move"]
    )
    def move(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Explain the move, then make it, with an entry in both accounts' audit logs."""
        channel = self.get_object(request, unquote(object_id))
        if channel is None:
            raise Http404
        form = MoveForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                channel_changes.move_channel(
                    channel=channel, actor=actor_of(request), **form.cleaned_data
                )
            except (UnknownAccount, ValidationError) as error:
                form.add_error("owner_email", str(getattr(error, "message", error)))
            else:
                said = _("%(channel)s was moved, and its keys were revoked.")
                self.message_user(request, said % {"channel": channel.name})
                return redirect("admin:channels_channel_change", channel.pk)
        context = self.admin_site.each_context(request) | {
            "title": _("Move a channel"),
            "opts": self.opts,
            "original": channel,
            "form": form,
        }
        status = 422 if form.is_bound else 200
        return TemplateResponse(request, "staff/move_channel.html", context, status=status)


@admin.register(PromptVersion)
class PromptVersionAdmin(TextAdmin):
    list_display = ("channel", "number", "author", "note", "created_at")
    list_select_related = ("channel", "author")
    search_fields = ("channel__name",)
    fields = list_display
    ordering = ("-id",)
    show_full_result_count = False

    def texts_of(self, row: PromptVersion) -> list[tuple[str, str]]:
        return [(_("System prompt, version %(number)s") % {"number": row.number}, row.text)]


@admin.register(FixedAnswer)
class FixedAnswerAdmin(AuditedAdmin):
    """Owners write saved replies. Staff can read them here and delete them if necessary."""

    list_display = ("question", "channel")
    list_select_related = ("channel",)
    search_fields = ("question", "channel__name")
    fields = ("channel", "question", "other_wordings", "answer")
    readonly_fields = ("other_wordings",)
    ordering = ("-id",)
    show_full_result_count = False

    @admin.display(description=gettext_lazy("Other wordings"))
    def other_wordings(self, reply: FixedAnswer) -> str:
        return "\n".join(fixed_answers.list_wordings(reply)[1:]) or _("None")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: FixedAnswer) -> None:
        fixed_answers.delete_fixed_answer(fixed_answer=obj, actor=actor_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        for one in queryset.select_related("channel"):
            self.delete_model(request, one)

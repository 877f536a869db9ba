"""Staff pages that record changes in the audit log, with the values before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from channels import audit
from channels.audit import Actor
from channels.models import Account, User
from common import languages
from common.floods import client_address
from common.pages.admin import StaffAdmin

# The billing permission that every way of adding credits requires.
BOOK_CREDITS = "billing.add_ledgerentry"


def actor_of(request: HttpRequest) -> Actor:
    """Return the staff member as the actor of the audit log."""
    assert isinstance(request.user, User)  # the site admits nobody else
    return Actor(request.user.email, request.user, client_address(request))


def changes_of(form: ModelForm, *, secret: Iterable[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Return what a valid form changes: field -> (before, after), without secret fields."""
    before, after = {}, {}
    for name in form.changed_data:
        if name not in secret:
            before[name] = _value(form.initial.get(name))
            after[name] = _value(form.cleaned_data.get(name))
    return audit.changes_between(before, after)


def _value(value: Any) -> Any:
    if isinstance(value, Model):
        return value.pk
    if isinstance(value, QuerySet | list | tuple):
        return ", ".join(sorted(map(str, value)))
    return value


class AuditedAdmin(StaffAdmin):
    """Writes an audit entry for each row that is added, changed or deleted, also in inlines."""

    secret_fields: tuple[str, ...] = ()

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        changes = changes_of(form, secret=self.secret_fields)
        if changes or not change:
            self.note(request, obj, "updated" if change else "created", changes)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        changed = {obj.pk for obj, _ in formset.changed_objects}
        for one in formset.forms:
            obj = one.instance
            if obj.pk in changed:
                self.note(request, obj, "updated", changes_of(one))
            elif obj in formset.new_objects:
                self.note(request, obj, "created", changes_of(one))
        for obj in formset.deleted_objects:
            self.note(request, obj, "deleted")

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.note(request, obj, "deleted")
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        for obj in queryset:
            self.note(request, obj, "deleted")
        super().delete_queryset(request, queryset)

    def note(
        self,
        request: HttpRequest,
        obj: Any,
        deed: str,
        changes: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None:
        """Write one entry, such as `route.updated`, to the log of the account of the row."""
        with languages.speaking(settings.LANGUAGE_CODE):  # what is stored is in English
            target = str(obj)
        audit.record(
            f"{obj._meta.model_name}.{deed}",
            actor=actor_of(request),
            account_id=account_id_of(obj),
            target=target,
            changes=changes,
        )


def account_id_of(obj: Any) -> int | None:
    """Return the id of a row's account, or None if the row concerns the whole gateway."""
    if isinstance(obj, Account):
        return obj.pk
    if hasattr(obj, "account_id"):
        return int(obj.account_id)
    channel = getattr(obj, "channel", None)
    return channel.account_id if channel is not None else None

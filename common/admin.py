"""What all pages of the staff admin share, and the pages that only show."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.validators import MaxValueValidator
from django.db.models import Field, Model
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from common.forms import set_plain_words

# Before the database's own bound, which is a number nobody knows.
_not_too_large = MaxValueValidator(1_000_000_000, "Enter 1,000,000,000 or less.")
_not_too_large.code = "too_large"
# What the links of a filter end in.
_LOOKUPS = ("", "__exact", "__id__exact", "__isnull")


class PlainWords:
    """Mixed into a page or its rows: says what is wrong in our words."""

    def formfield_for_dbfield(
        self, db_field: Field, request: HttpRequest, **options: Any
    ) -> forms.Field | None:
        field: forms.Field | None = super().formfield_for_dbfield(  # type: ignore[misc]
            db_field, request, **options
        )
        if field is not None:
            set_plain_words(field)
        if isinstance(field, forms.IntegerField):
            field.validators.append(_not_too_large)
        return field


class StaffAdmin(PlainWords, ModelAdmin):
    """A page of the staff admin: its filters and no others, our titles, our words."""

    # Columns that links of ours filter by, beside those of `list_filter`.
    linked_filters: tuple[str, ...] = ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow the filters that are shown.

        Django allows any column of the row: `?content__startswith=a`, asked letter by letter,
        tells a text, a digest or a password's hash to whoever may see the list.
        """
        shown = self.get_list_filter(request)
        names = [one if isinstance(one, str) else one[0] for one in shown]
        return lookup in {
            f"{name}{ending}" for name in (*names, *self.linked_filters) for ending in _LOOKUPS
        }

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **options: Any
    ) -> type[forms.ModelForm]:
        form: type[forms.ModelForm] = super().get_form(request, obj, change=change, **options)
        for field in form.base_fields.values():  # those that a form declares itself, too
            set_plain_words(field)
        return form

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        response: HttpResponse = super().changelist_view(request, title | (extra_context or {}))
        return response

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        name = str(self.opts.verbose_name)
        title = {"title": capfirst(name) if object_id else f"Add {name}"}
        return super().changeform_view(request, object_id, form_url, title | (extra_context or {}))


class SuperuserWrites:
    """Mixed into a page or its rows: others may look, as far as their permissions go.

    For what opens doors: who may write it could give themselves what they were not given.
    """

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)


class ReadOnlyAdmin(StaffAdmin):
    """Rows that services write; nobody adds, changes or deletes them by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class BigTableAdmin(ReadOnlyAdmin):
    """Rows by the million: pages go on and on, and nothing counts them all."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = 50

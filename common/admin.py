"""What all pages of the staff admin share, and the pages that only show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.core.validators import MaxValueValidator
from django.db.models import Field, ForeignKey, ManyToManyField, Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.text import capfirst
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from common.forms import set_plain_words

# Before the database's own bound, which is a number nobody knows.
_not_too_large = MaxValueValidator(1_000_000_000, "Enter 1,000,000,000 or less.")
_not_too_large.code = "too_large"
# What the links of a filter end in.
_LOOKUPS = ("", "__exact", "__id__exact", "__isnull")


def can_hold(field: Any, text: str) -> bool:
    """Tell whether a column can hold what was sent, such as a row's key; asks no database.

    Databases refuse to compare a number with a text or with one that is too large for them, and a
    text with one that holds a NUL.
    """
    while field.remote_field:  # the key of another model's row
        field = field.target_field
    try:
        field.run_validators(field.to_python(text))
    except ValidationError:
        return False
    return "\x00" not in text


def number_from_path(object_id: str) -> int:
    """Return the number that an address names a row by. Raises Http404 for anything else."""
    if not (object_id.isascii() and object_id.isdecimal() and len(object_id) < 19):
        raise Http404
    return int(object_id)


class RowChoice(AutocompleteSelect):
    """Django's box that finds rows as one types; what names no row is shown as no choice.

    Django asks the database for whatever was sent, so a text in place of a number is a 500.
    """

    def optgroups(self, name: str, value: Sequence[str], attr: Any = None) -> Any:
        known = [one for one in value if can_hold(self.field, str(one))]
        return super().optgroups(name, known, attr)


class RowChoices(forms.ModelMultipleChoiceField):
    """Django's field for several rows, which refuses what can name none before it asks."""

    def clean(self, value: Any) -> Any:
        rows: Any = self.queryset
        for one in value if isinstance(value, list | tuple) else ():
            if not can_hold(rows.model._meta.pk, str(one)):
                words = self.error_messages["invalid_pk_value"]
                raise ValidationError(words, code="invalid_pk_value", params={"pk": one})
        return super().clean(value)


class PlainWords:
    """Mixed into a page or its rows: says what is wrong in our words."""

    def formfield_for_foreignkey(
        self, db_field: ForeignKey, request: HttpRequest, **options: Any
    ) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):  # type: ignore[attr-defined]
            widget = RowChoice(db_field, self.admin_site)  # type: ignore[attr-defined]
            options.setdefault("widget", widget)
        return super().formfield_for_foreignkey(  # type: ignore[misc]
            db_field, request, **options
        )

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **options: Any
    ) -> Any:
        options.setdefault("form_class", RowChoices)
        return super().formfield_for_manytomany(  # type: ignore[misc]
            db_field, request, **options
        )

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
        names += self.linked_filters
        is_shown = lookup in {f"{name}{ending}" for name in names for ending in _LOOKUPS}
        if not is_shown or "\x00" in value:
            return False
        return lookup.endswith("__isnull") or self._can_filter(lookup.split("__")[0], value)

    def _can_filter(self, name: str, value: str) -> bool:
        try:
            field = self.opts.get_field(name)
        except FieldDoesNotExist:
            return True
        return not field.is_relation or can_hold(field, value)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Return the row an address names, None for what can name none."""
        field = self.opts.get_field(from_field) if from_field else self.opts.pk
        if not can_hold(field, object_id):
            return None
        return super().get_object(request, object_id, from_field)

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **options: Any
    ) -> type[forms.ModelForm]:
        form: type[forms.ModelForm] = super().get_form(request, obj, change=change, **options)
        for field in form.base_fields.values():  # those that a form declares itself, too
            set_plain_words(field)
        return form

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponseBase | None:
        """Act on the rows that were chosen; leave out what can be the key of no row."""
        post = request.POST.copy()
        chosen = post.getlist(ACTION_CHECKBOX_NAME)
        keys = [one for one in chosen if can_hold(self.opts.pk, str(one))]
        post.setlist(ACTION_CHECKBOX_NAME, keys)
        request.POST = post  # type: ignore[assignment]  # a copy can be changed, which is all
        answer: HttpResponseBase | None = super().response_action(request, queryset)
        return answer

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

"""Base classes of the staff admin, including the read-only pages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_
from typing import Any

from django import forms
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.core.validators import MaxValueValidator
from django.db.models import Field, ForeignKey, ManyToManyField, Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from common.pages.forms import AT_MOST, set_plain_words

# Checked before the database's own bound, whose number would mean nothing to people.
_not_too_large = MaxValueValidator(1_000_000_000, AT_MOST)  # type: ignore[arg-type]  # no str
_not_too_large.code = "too_large"
# The endings of a filter link's lookup.
_LOOKUPS = ("", "__exact", "__id__exact", "__isnull")


def can_hold(field: Any, text: str) -> bool:
    """Return whether a column can hold this text, a row's key for example. Runs no query.

    Databases refuse to compare a number with text or with a number too large for them, and text
    with text that contains a NUL.
    """
    while field.remote_field:  # the key of another model's row
        field = field.target_field
    try:
        field.run_validators(field.to_python(text))
    except ValidationError:
        return False
    return "\x00" not in text


def number_from_path(object_id: str) -> int:
    """Return the row's number from the URL. Raises Http404 for anything else."""
    if not (object_id.isascii() and object_id.isdecimal() and len(object_id) < 19):
        raise Http404
    return int(object_id)


class RowChoice(AutocompleteSelect):
    """Django's autocomplete select, which shows a value that cannot name a row as no choice.

    Django queries the database for any value sent, so text in place of a number is a 500.
    """

    def optgroups(self, name: str, value: Sequence[str], attr: Any = None) -> Any:
        known = [one for one in value if can_hold(self.field, str(one))]
        return super().optgroups(name, known, attr)


class RowChoices(forms.ModelMultipleChoiceField):
    """Django's multiple-choice field, which refuses impossible keys before it runs a query."""

    def clean(self, value: Any) -> Any:
        rows: Any = self.queryset
        for one in value if isinstance(value, list | tuple) else ():
            if not can_hold(rows.model._meta.pk, str(one)):
                words = self.error_messages["invalid_pk_value"]
                raise ValidationError(words, code="invalid_pk_value", params={"pk": one})
        return super().clean(value)


def name_of_filter(shown: Any) -> str:
    """Return the column, or the parameter, of an entry of `list_filter`."""
    if isinstance(shown, type):
        return str(getattr(shown, "parameter_name"))  # noqa: B009  # of a SimpleListFilter
    return str(shown if isinstance(shown, str) else shown[0])


class PlainWords:
    """Mixin for an admin page or an inline: replaces Django's error messages with ours."""

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
    """Base of every staff admin page: only the filters shown, our titles, our error messages."""

    # Columns that our own links filter by, in addition to `list_filter`.
    linked_filters: tuple[str, ...] = ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow only the filters that the page shows.

        Django allows any column of the row. `?content__startswith=a`, asked letter by letter,
        reveals a text, a digest, or a password hash to anyone who may see the list.
        """
        shown = self.get_list_filter(request)
        names = [name_of_filter(one) for one in shown]
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
        """Return the row that the URL names, or None if it cannot name one."""
        field = self.opts.get_field(from_field) if from_field else self.opts.pk
        if not can_hold(field, object_id):
            return None
        return super().get_object(request, object_id, from_field)

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **options: Any
    ) -> type[forms.ModelForm]:
        form: type[forms.ModelForm] = super().get_form(request, obj, change=change, **options)
        for field in form.base_fields.values():  # includes fields that a form declares itself
            set_plain_words(field)
        return form

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponseBase | None:
        """Run the action on the chosen rows. Ignores values that cannot be a row's key."""
        post = request.POST.copy()
        chosen = post.getlist(ACTION_CHECKBOX_NAME)
        keys = [one for one in chosen if can_hold(self.opts.pk, str(one))]
        post.setlist(ACTION_CHECKBOX_NAME, keys)
        request.POST = post  # type: ignore[assignment]  # a copy, so it can be changed
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
        title = {"title": capfirst(name) if object_id else _("Add %(name)s") % {"name": name}}
        return super().changeform_view(request, object_id, form_url, title | (extra_context or {}))


class SuperuserWrites:
    """Mixin for an admin page or an inline: only superusers write; permissions decide who reads.

    For rows that grant access: anyone who may write them could grant themselves more.
    """

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_superuser)


class ReadOnlyAdmin(StaffAdmin):
    """Rows that only services write. Nobody adds, changes, or deletes them by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class BigTableAdmin(ReadOnlyAdmin):
    """Tables with millions of rows: pages without a last one, no full count, and a plain search.

    Of `search_fields`, those that begin with "=" are compared with the whole text, and upper and
    lower case differ. Django would ignore case, which reads every row at a multiple of the cost.
    Fields of other tables are looked up there first.
    """

    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = 50

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return queryset.filter(self.condition_for(term)) if term else queryset, False

    def condition_for(self, term: str) -> Q:
        """Return the condition for rows that have the term as an id, or contain all its words."""
        fields = self.search_fields
        found = Q(pk__in=())
        for name in (field[1:] for field in fields if field.startswith("=")):
            if can_hold(self.opts.get_field(name), term):
                found |= Q(**{name: term})
        in_words = [field for field in fields if not field.startswith("=")]
        if in_words:
            found |= reduce(and_, (self._contains(word, in_words) for word in term.split()), Q())
        return found

    def _contains(self, word: str, fields: Sequence[str]) -> Q:
        found = Q()
        for field in fields:
            name, _dots, of_other = field.partition("__")
            if of_other:
                others = self.opts.get_field(name).related_model._default_manager
                rows = others.filter(**{f"{of_other}__icontains": word})
                found |= Q(**{f"{name}__in": rows.values("pk")})
            else:
                found |= Q(**{f"{name}__icontains": word})
        return found

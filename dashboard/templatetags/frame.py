"""Helpers for our versions of unfold's templates."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.contrib.admin.utils import lookup_field

register = template.Library()


@register.filter
def json_text(field: Any) -> str:
    """Return the JSON of a read-only field, one line for each value.

    If pygments is installed, unfold would colour it with inline styles, which the content security
    policy forbids.
    """
    value = lookup_field(field.field["field"], field.form.instance, field.model_admin)[2]
    return json.dumps(value, indent=2, ensure_ascii=False)

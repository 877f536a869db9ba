"""What our versions of unfold's templates need."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.contrib.admin.utils import lookup_field

register = template.Library()


@register.filter
def json_text(field: Any) -> str:
    """Return the JSON of a read-only field, a line for each value.

    Unfold would colour it by pygments, where that is installed: with styles in the page, which
    the content security policy refuses.
    """
    value = lookup_field(field.field["field"], field.form.instance, field.model_admin)[2]
    return json.dumps(value, indent=2, ensure_ascii=False)

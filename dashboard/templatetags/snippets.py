"""Snippets as HTML: {% load snippets %}."""

from __future__ import annotations

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from dashboard.reference.snippets import KEY_PLACEHOLDER

register = template.Library()

# connect.js inserts a key into all of them at once.
_SLOT = f"<span data-api-key>{KEY_PLACEHOLDER}</span>"


@register.filter
def with_key_slots(text: str) -> SafeString:
    """Return code as HTML, with a slot wherever the key belongs."""
    return mark_safe(escape(text).replace(KEY_PLACEHOLDER, _SLOT))  # noqa: S308  # escaped first

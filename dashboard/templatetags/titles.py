"""The current place in the staff admin, in the sidebar's words: {% load titles %}."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import RequestContext
from django.urls import reverse

from dashboard.staff import navigation

register = template.Library()


@register.simple_tag(takes_context=True)
def page_trail(context: RequestContext) -> list[dict[str, Any]]:
    """Return the parts of the title: group and list, list and row, or the page's own title."""
    opts = context.get("opts")
    place = navigation.find_place(opts.label_lower) if opts else None
    if opts is None or place is None:
        return [{"title": context.get("content_title") or context.get("title") or ""}]
    group, name = place
    link = reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist")
    listed = {"title": name, "link": link}
    row = context.get("original") or context.get("object")
    if row and not isinstance(row, str):
        return [listed, {"title": str(row)}]
    if context.get("add"):
        return [listed, {"title": context.get("title")}]
    return [{"title": group}, listed]

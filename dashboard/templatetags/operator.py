"""How to reach the operator, in sentences: {% load operator %}."""

from __future__ import annotations

from django import template
from django.conf import settings
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from common.contact import parse_contact

register = template.Library()


@register.simple_tag
def the_operator(*, is_subject: bool = False) -> str:
    """Return “the operator”, followed by a link to OPERATOR_CONTACT if that is set.

    Some languages need another form where the operator is the subject of the sentence.
    """
    asked = pgettext("whom to ask, or to contact", "the operator")
    operator = pgettext("who does something", "the operator") if is_subject else asked
    contact = parse_contact(settings.OPERATOR_CONTACT)
    if contact is None:
        return operator
    return format_html(
        '{} (<a class="gw-link" href="{}">{}</a>)',
        operator,
        contact.href,
        contact.text,
    )


@register.simple_tag
def need_help() -> str:
    """Return a paragraph for an error page, or nothing if nobody has said whom to ask."""
    if not settings.OPERATOR_CONTACT:
        return ""
    place = "%(operator)s"
    before, _place, after = _("Need help? Contact %(operator)s.").partition(place)
    return format_html("<p>{}{}{}</p>", before, the_operator(), after)

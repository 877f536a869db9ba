"""Credits and prices in words: {% load prices %}."""

from __future__ import annotations

from functools import reduce

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from channels.models import LanguageModel
from common.pages.numbers import local_credits

register = template.Library()
register.filter("credits", local_credits)

# The purposes of the models that come with the gateway. Operators change them as they like.
_PURPOSES = {
    gettext_noop("General purpose, reasoning"),
    gettext_noop("Complex tasks, code generation"),
    gettext_noop("Large context tasks"),
    gettext_noop("Fast responses, coding"),
    gettext_noop("Lightweight, fast tasks"),
}
# What 1,000 tokens of each kind cost (LanguageModel.token_prices).
_TOKENS = {
    "input": gettext_lazy("%(amount)s per 1,000 input tokens"),
    "cached input": gettext_lazy("%(amount)s per 1,000 cached input tokens"),
    "output": gettext_lazy("%(amount)s per 1,000 output tokens"),
}


@register.filter
def purpose(words: str) -> str:
    """Return what a model is best for, in the reader's language if the gateway wrote it."""
    return _(words) if words in _PURPOSES else words


@register.filter
def price_of_reply(model: LanguageModel) -> str:
    """Return what a reply of a model costs, in words."""
    flat = model.price_per_reply_microcredits
    # A flat amount of zero is not mentioned if tokens cost something.
    tokens = [
        str(_TOKENS[kind]) % {"amount": local_credits(price)}
        for kind, price in model.token_prices()
    ]
    if not (flat or tokens):
        return _("nothing")
    amount = local_credits(flat)
    words = _("%(amount)s credit per reply") if amount == "1" else _("%(amount)s credits per reply")
    parts = [words % {"amount": amount}] if flat else []
    price = reduce(
        lambda first, more: _("%(first)s and %(more)s") % {"first": first, "more": more},
        parts + tokens,
    )
    return price if flat else _("%(price)s (in credits)") % {"price": price}

"""Credits and prices in words: {% load prices %}."""

from __future__ import annotations

from django import template

from channels.models import LanguageModel
from common.pages.numbers import local_credits

register = template.Library()
register.filter("credits", local_credits)


@register.filter
def price_of_reply(model: LanguageModel) -> str:
    """Return what a reply of a model costs, in words."""
    flat = model.price_per_reply_microcredits
    # A flat amount of zero is not mentioned if tokens cost something.
    tokens = [
        f"{local_credits(price)} per 1,000 {kind} tokens" for kind, price in model.token_prices()
    ]
    if not (flat or tokens):
        return "nothing"
    amount = local_credits(flat)
    parts = [f"{amount} credit{'' if amount == '1' else 's'} per reply"] if flat else []
    return " and ".join(parts + tokens) + ("" if flat else " (in credits)")

"""When a model retires, in words: {% load ends %}."""

from __future__ import annotations

from django import template
from django.utils import timezone

from channels import model_ends
from channels.models import LanguageModel, Plan

register = template.Library()


@register.filter
def end_words(model: LanguageModel, plan: Plan | None) -> str:
    """Return “Retires on 12 Dec 2026, then Gemma 2 9B”, or '' if no end is announced.

    `plan` is that of the account, because it may not allow the successor.
    """
    return model_ends.words_of_end(model, today=timezone.now().date(), plan=plan)

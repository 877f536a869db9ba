"""The end of a model: which ends are valid, and what pages and the API say about them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef, Q, prefetch_related_objects
from django.utils.translation import gettext as _

from channels.models import Channel, LanguageModel, Plan
from common.pages import dates

# Pages, the API, and the first mail announce an end this long before.
NOTICE = timedelta(days=30)
NO_END = {"ends_on": None, "successor": None}
# Whatever of a model's form bears on its end.
_FIELDS = {"ends_on", "successor", "is_enabled"}


def show_day(day: date) -> str:
    """Return a day as pages and mails show it: 12 Dec 2026."""
    return dates.show(day, "j M Y")


def is_announced(model: LanguageModel, *, today: date) -> bool:
    """Return whether people are to be told of a model's end. Stays true once it is over."""
    return model.ends_on is not None and model.ends_on - NOTICE <= today


def words_of_end(model: LanguageModel, *, today: date, plan: Plan | None = None) -> str:
    """Return “Retires on 12 Dec 2026, then Gemma 2 9B”, or '' while that is not announced.

    Names no successor to which the channels of an account with this plan will not move.
    """
    if model.ends_on is None or not is_announced(model, today=today):
        return ""
    if model.is_over(today):
        return _("Retired on %(day)s") % {"day": show_day(model.ends_on)}
    successor = find_replacement(model, today=today, plan=plan)
    said = _("Retires on %(day)s, then %(model)s") if successor else _("Retires on %(day)s")
    return said % {"day": show_day(model.ends_on), "model": successor}


def list_ends(
    model_ids: Collection[str], *, account_id: int | None, today: date
) -> dict[str, dict[str, Any]]:
    """Return, for each of these models, its end as callers of an account see it."""
    ends = {model_id: dict(NO_END) for model_id in model_ids}
    announced = LanguageModel.objects.filter(model_id__in=model_ids, ends_on__lte=today + NOTICE)
    models = list(announced.select_related("successor"))
    plan = Plan.objects.filter(accounts=account_id).first() if models else None
    return ends | {model.model_id: _describe(model, plan, today) for model in models}


def _describe(model: LanguageModel, plan: Plan | None, today: date) -> dict[str, Any]:
    successor = find_replacement(model, today=today, plan=plan)
    return {
        "ends_on": model.ends_on.isoformat() if model.ends_on else None,
        "successor": successor.model_id if successor else None,
    }


def find_replacement(
    model: LanguageModel, *, today: date, plan: Plan | None = None
) -> LanguageModel | None:
    """Return the successor if channels of an account with this plan can move to it, or None.

    Before the model's last day, tells as far as is known what will be true on that day.
    """
    successor, day = model.successor, max(today, model.ends_on or today)
    if successor is None or not successor.is_enabled or successor.is_over(day):
        return None
    if plan is None:
        return successor
    # Once for each plan object, however many models a page asks about.
    prefetch_related_objects([plan], "models_allowed")
    chosen = plan.models_allowed.all()
    return successor if not chosen or successor in chosen else None


def is_allowed(model: LanguageModel) -> Q:
    """Return the condition that the plan of a channel's account allows this model."""
    chosen = LanguageModel.objects.filter(plans__accounts=OuterRef("account_id")).order_by()
    return ~Exists(chosen) | Exists(chosen.filter(pk=model.pk))


def refuse_wrong_end(model: LanguageModel, *, changed: Collection[str], today: date) -> None:
    """Raise ValidationError if the new values of an edited model make an impossible end.

    Ignores what was not changed. A successor that was switched off since must not keep staff from
    changing a price.
    """
    if not _FIELDS.intersection(changed):
        return
    flaws = _flaws_of_day(model, changed, today) | _flaws_of_successor(model, today)
    for field, words in _flaws_as_successor(model, today).items():
        flaws.setdefault(field, words)
    if flaws:
        raise ValidationError(flaws)


def _flaws_of_day(model: LanguageModel, changed: Collection[str], today: date) -> dict[str, str]:
    if model.ends_on is None:
        if model.successor is None:
            return {}
        return {"ends_on": _("Choose the day on which the model retires, or choose no successor.")}
    if "ends_on" in changed and model.ends_on < today:
        return {"ends_on": _("This day is over. Choose today or a later day (UTC).")}
    return {}


def _flaws_of_successor(model: LanguageModel, today: date) -> dict[str, str]:
    successor = model.successor
    if successor is None:
        return {}
    return {"successor": words} if (words := _flaw_of(model, successor, today)) else {}


def _flaw_of(model: LanguageModel, successor: LanguageModel, today: date) -> str:
    if successor.pk == model.pk:
        return _("A model cannot succeed itself. Choose another model.")
    if not successor.is_enabled:
        return _("%(model)s is switched off. Switch it on first, or choose another model.") % {
            "model": successor
        }
    if successor.successor_id is not None and successor.successor_id == model.pk:
        return _("%(model)s names this model as its own successor. Choose another model.") % {
            "model": successor
        }
    if successor.ends_on and (successor.is_over(today) or successor.successor):
        said = (
            _("%(model)s retires on %(day)s, then %(next)s. Choose one that stays.")
            if successor.successor
            else _("%(model)s retires on %(day)s. Choose one that stays.")
        )
        return said % {
            "model": successor,
            "day": show_day(successor.ends_on),
            "next": successor.successor,
        }
    if successor.ends_on and model.ends_on and successor.ends_on <= model.ends_on:
        return _(
            "%(model)s retires on %(day)s, no later than this model. Choose one that stays."
        ) % {"model": successor, "day": show_day(successor.ends_on)}
    return _flaw_of_plans(model, successor)


def _flaw_of_plans(model: LanguageModel, successor: LanguageModel) -> str:
    """Name a plan that keeps channels of a model from moving to its successor."""
    on_it = Q(model_id=model.pk) | Q(fallback_model_id=model.pk)
    kept = Channel.objects.filter(~is_allowed(successor), on_it)
    plan = Plan.objects.filter(accounts__channels__in=kept).first()
    if plan is None:
        return ""
    return _(
        "The plan %(plan)s does not allow %(model)s, and channels under it use this model. Add "
        "%(model)s to the plan, or choose another model."
    ) % {"plan": plan, "model": successor}


def _flaws_as_successor(model: LanguageModel, today: date) -> dict[str, str]:
    """Return what keeps the channels of another model from moving to this one on its last day."""
    coming = LanguageModel.objects.filter(successor_id=model.pk, ends_on__gt=today)
    first = coming.exclude(pk=model.pk).order_by("ends_on").first() if model.pk else None
    if first is None or first.ends_on is None:
        return {}
    words = _(
        "The channels of %(model)s move to this model on %(day)s. Give %(model)s another "
        "successor first."
    ) % {"model": first, "day": show_day(first.ends_on)}
    if not model.is_enabled:
        return {"is_enabled": words}
    if model.successor_id is not None:
        return {"successor": words}
    latest = coming.order_by("-ends_on").first() or first
    if model.ends_on and latest.ends_on and model.ends_on <= latest.ends_on:
        return {"ends_on": words}
    return {}

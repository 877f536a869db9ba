"""Moves the channels of a model that retires to its successor, and back.

Also those of which it is the fallback model (`is_fallback`).
"""

from __future__ import annotations

import time
import uuid
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from channels import channel_changes, model_ends
from channels.audit import GATEWAY, Actor
from channels.errors import ChannelChanged, UnknownChannel
from channels.models import Channel, LanguageModel, ModelMove


def move_from_retired_models(*, now: datetime) -> int:
    """Move each channel whose model's day has come to the successor. Returns how many moved.

    May run late, twice, or at the same time as another. Each channel has its own transaction.
    Leaves out channels without a possible successor, and those that somebody moved back.
    """
    over = LanguageModel.objects.filter(ends_on__lte=now.date()).select_related("successor")
    return sum(
        _try_move(model.pk, channel_id, now, is_fallback=is_fallback)
        for model in over
        for is_fallback in (False, True)
        for channel_id in _list_movable(model, now, is_fallback=is_fallback)
    )


def list_remaining(model: LanguageModel, *, is_fallback: bool) -> QuerySet[Channel]:
    """Return the channels on a model that were not moved away from it on its present last day."""
    moved = list_moved(model).filter(channel=OuterRef("pk"), is_fallback=is_fallback)
    return Channel.objects.filter(~Exists(moved), **{_field(is_fallback): model}).order_by("id")


def _field(is_fallback: bool) -> str:  # the only argument
    return "fallback_model" if is_fallback else "model"


def list_moved(model: LanguageModel) -> QuerySet[ModelMove]:
    """Return what was moved away from a model on its present last day, also what was moved back."""
    return ModelMove.objects.filter(left=model, ends_on=F("left__ends_on"))


def _list_movable(model: LanguageModel, now: datetime, *, is_fallback: bool) -> list[uuid.UUID]:
    successor = model_ends.find_replacement(model, today=now.date())
    if successor is None:
        return []
    found = list_remaining(model, is_fallback=is_fallback).filter(model_ends.is_allowed(successor))
    if is_fallback:  # a channel's own model is no fallback
        found = found.exclude(model=successor)
    return list(found.values_list("id", flat=True))


def _try_move(model_pk: int, channel_id: uuid.UUID, now: datetime, *, is_fallback: bool) -> bool:
    """Move one channel, unless it, its plan, or its model has changed since it was listed."""
    try:
        _move(model_pk, channel_id, now, is_fallback=is_fallback)
    except (UnknownChannel, ChannelChanged, ValidationError):
        return False
    return True


@transaction.atomic
def _move(model_pk: int, channel_id: uuid.UUID, now: datetime, *, is_fallback: bool) -> None:
    model = LanguageModel.objects.select_related("successor").get(pk=model_pk)
    successor = model_ends.find_replacement(model, today=now.date())
    if model.ends_on is None or not model.is_over(now.date()) or successor is None:
        raise ChannelChanged
    channel = channel_changes.replace_model(
        channel_id=str(channel_id),
        field=_field(is_fallback),
        left=model,
        entered=successor,
        action="channel.model_moved",
        actor=GATEWAY,
    )
    # Checked under the channel's lock: somebody may have moved it back a moment ago.
    of_this_end = {"left": model, "is_fallback": is_fallback, "ends_on": model.ends_on}
    if channel.model_moves.filter(**of_this_end).exists():
        raise ChannelChanged
    ModelMove.objects.create(channel=channel, entered=successor, moved_at=now, **of_this_end)


def find_move(channel: Channel, *, is_fallback: bool) -> ModelMove | None:
    """Return the move that can be undone: the channel is still where the gateway put it."""
    moves = _undoable().filter(channel=channel, is_fallback=is_fallback)
    return moves.order_by("-id").first()


def list_moves(model: LanguageModel) -> QuerySet[ModelMove]:
    """Return the moves away from a model that can be undone."""
    return _undoable().filter(left=model).order_by("id")


def count_moves() -> dict[int, int]:
    """Return, for the primary key of each model, how many moves away from it can be undone."""
    counts = _undoable().order_by().values_list("left").annotate(count=Count("id"))
    return dict(counts)


# The condition that a channel is still where a move has put it.
_UNMOVED = Q(is_fallback=False, channel__model=F("entered")) | Q(
    is_fallback=True, channel__fallback_model=F("entered")
)


def _undoable() -> QuerySet[ModelMove]:
    moves = ModelMove.objects.filter(_UNMOVED, moved_back_at=None, left__is_enabled=True)
    return moves.select_related("left", "entered")


@transaction.atomic
def move_back(*, move: ModelMove, actor: Actor) -> None:
    """Put a channel back on the model that it left. The gateway does not move it again.

    Raises UnknownChannel, ChannelChanged if the channel is on another model by now or the old one
    is switched off, and ValidationError if the account's plan does not allow the old one.
    """
    channel_changes.replace_model(
        channel_id=str(move.channel_id),
        field=_field(move.is_fallback),
        left=move.entered,
        entered=move.left,
        action="channel.model_moved_back",
        actor=actor,
    )
    # Under the channel's lock.
    is_enabled = LanguageModel.objects.filter(pk=move.left_id, is_enabled=True).exists()
    row = ModelMove.objects.filter(pk=move.pk, moved_back_at=None)
    if not is_enabled or not row.update(moved_back_at=timezone.now()):
        raise ChannelChanged


def move_all_back(*, model: LanguageModel, actor: Actor, deadline: float) -> tuple[int, int]:
    """Put every channel back that the gateway moved away from a model, each on its own.

    Stops at `deadline`, a time.monotonic() value; what is left can be moved back by another call.
    Returns how many went back, and how many stay because their plan does not allow the model.
    """
    moved = kept = 0
    for move in list_moves(model):
        if time.monotonic() >= deadline:
            break
        try:
            move_back(move=move, actor=actor)
        except (UnknownChannel, ChannelChanged):
            continue  # somebody was faster
        except ValidationError:
            kept += 1
        else:
            moved += 1
    return moved, kept

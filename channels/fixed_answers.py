"""An owner's own answers: added, changed, deleted, and the one that a question would meet."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db import IntegrityError, transaction

from channels import audit, limits
from channels.audit import Actor
from channels.errors import ChannelChanged
from channels.models import Channel, FixedAnswer
from common.text import normalize_question


@transaction.atomic
def add_fixed_answer(
    *, channel: Channel, question: str, answer: str, actor: Actor
) -> tuple[FixedAnswer, bool]:
    """Add a saved reply; return it and whether it is new, as the very same one is added once.

    Raises ValidationError naming what is wrong, also a question that has another answer, and
    PlanLimitReached.
    """
    account = limits.lock_account_of(channel)
    same = find_match(channel=channel, text=question)
    if same is not None and (same.question, same.answer) == (question, answer):
        return same, False
    limits.refuse_beyond(account, limits.SAVED_REPLIES)
    added = FixedAnswer(channel=channel, question=question, answer=answer)
    _save(added)
    _record("fixed_answer.added", added, actor, answer=(None, answer))
    return added, True


@transaction.atomic
def update_fixed_answer(
    *,
    fixed_answer: FixedAnswer,
    question: str,
    answer: str,
    actor: Actor,
    expected_digest: str = "",
) -> None:
    """Change question and answer.

    Raises ValidationError naming what is wrong, and ChannelChanged where `expected_digest` (see
    digest_of) is not that of the stored reply, or the reply was deleted.
    """
    # The row's lock: of two editors the second sees what the first has saved.
    stored = FixedAnswer.objects.select_for_update().filter(id=fixed_answer.id).first()
    if stored is None:
        raise ChannelChanged
    before = {"question": stored.question, "answer": stored.answer}
    if before == {"question": question, "answer": answer}:  # the same form, sent twice
        return
    if expected_digest and expected_digest != digest_of(stored):
        raise ChannelChanged
    fixed_answer.question, fixed_answer.answer = question, answer
    _save(fixed_answer)
    changes = audit.changes_between(before, {"question": question, "answer": answer})
    if changes:
        _record("fixed_answer.updated", fixed_answer, actor, **changes)


def digest_of(fixed_answer: FixedAnswer) -> str:
    """Return a digest of question and answer: what a form carries to notice another's save."""
    values = json.dumps([fixed_answer.question, fixed_answer.answer])
    return hashlib.sha256(values.encode()).hexdigest()


@transaction.atomic
def delete_fixed_answer(*, fixed_answer: FixedAnswer, actor: Actor) -> None:
    """Delete an answer; the next visitor who asks that gets the model's."""
    if FixedAnswer.objects.filter(id=fixed_answer.id).delete()[0]:
        _record("fixed_answer.deleted", fixed_answer, actor, answer=(fixed_answer.answer, None))


def find_match(*, channel: Channel, text: str) -> FixedAnswer | None:
    """Return the answer that a visitor's message would get, or None where the model answers."""
    normalized = normalize_question(text)
    if not normalized:
        return None
    return FixedAnswer.objects.filter(channel=channel, question_normalized=normalized).first()


def _save(fixed_answer: FixedAnswer) -> None:
    # clean() speaks of a question that is taken, better than the constraint does.
    fixed_answer.full_clean(validate_constraints=False)
    try:
        with transaction.atomic():
            fixed_answer.save()
    except IntegrityError:  # another was quicker with the same question, and clean() sees it now
        fixed_answer.full_clean(validate_constraints=False)
        raise


def _record(action: str, fixed_answer: FixedAnswer, actor: Actor, **changes: Any) -> None:
    audit.record(
        action,
        actor=actor,
        account_id=fixed_answer.channel.account_id,
        channel=fixed_answer.channel,
        target=fixed_answer.question,
        changes=changes,
    )

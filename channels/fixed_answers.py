"""Saved replies: add, change and delete them, and find the one that matches a message."""

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
    """Add a saved reply. Returns it and whether it is new.

    Idempotent: the same question and answer are added only once. Raises PlanLimitReached, and
    ValidationError, which names each invalid field, also for a question with another answer.
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
def copy_fixed_answers(*, source: Channel, target: Channel, actor: Actor) -> int:
    """Copy all saved replies into a new channel of the same account. Returns how many.

    The audit log gets one entry with their number. Raises PlanLimitReached.
    """
    account = limits.lock_account_of(target)
    saved = FixedAnswer.objects.filter(channel=source).order_by("pk")
    names = ("question", "question_normalized", "answer")
    copies = [FixedAnswer(channel=target, **values) for values in saved.values(*names)]
    if copies:
        limits.refuse_beyond(account, limits.SAVED_REPLIES, adding=len(copies))
        FixedAnswer.objects.bulk_create(copies, batch_size=500)
        audit.record(
            "fixed_answer.added",
            actor=actor,
            account_id=account.id,
            channel=target,
            target=f"{len(copies):,} saved replies of {source.name}"[:200],
        )
    return len(copies)


@transaction.atomic
def update_fixed_answer(
    *,
    fixed_answer: FixedAnswer,
    question: str,
    answer: str,
    actor: Actor,
    expected_digest: str = "",
) -> None:
    """Change the question and answer of a saved reply.

    Raises ValidationError, which names each invalid field, and ChannelChanged if `expected_digest`
    (see digest_of) does not match the stored reply, or if the reply was deleted.
    """
    # Because of the row lock, the second of two editors sees what the first one saved.
    stored = FixedAnswer.objects.select_for_update().filter(id=fixed_answer.id).first()
    if stored is None:
        raise ChannelChanged
    before = {"question": stored.question, "answer": stored.answer}
    if before == {"question": question, "answer": answer}:  # the same form was submitted twice
        return
    if expected_digest and expected_digest != digest_of(stored):
        raise ChannelChanged
    fixed_answer.question, fixed_answer.answer = question, answer
    _save(fixed_answer)
    changes = audit.changes_between(before, {"question": question, "answer": answer})
    if changes:
        _record("fixed_answer.updated", fixed_answer, actor, **changes)


def digest_of(fixed_answer: FixedAnswer) -> str:
    """Return a digest of question and answer. Forms carry it to notice somebody else's save."""
    values = json.dumps([fixed_answer.question, fixed_answer.answer])
    return hashlib.sha256(values.encode()).hexdigest()


@transaction.atomic
def delete_fixed_answer(*, fixed_answer: FixedAnswer, actor: Actor) -> None:
    """Delete a saved reply. The next visitor with this question gets the model's answer."""
    if FixedAnswer.objects.filter(id=fixed_answer.id).delete()[0]:
        _record("fixed_answer.deleted", fixed_answer, actor, answer=(fixed_answer.answer, None))


def find_match(*, channel: Channel, text: str) -> FixedAnswer | None:
    """Return the saved reply to a visitor's message, or None if the model answers it."""
    normalized = normalize_question(text)
    if not normalized:
        return None
    return FixedAnswer.objects.filter(channel=channel, question_normalized=normalized).first()


def _save(fixed_answer: FixedAnswer) -> None:
    # clean() reports a duplicate question more clearly than the constraint does.
    fixed_answer.full_clean(validate_constraints=False)
    try:
        with transaction.atomic():
            fixed_answer.save()
    except IntegrityError:  # lost the race for the same question, and clean() sees that now
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

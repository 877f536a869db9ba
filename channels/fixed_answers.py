"""Saved replies: add, change and delete them, and find the one that matches a message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils.translation import gettext as _

from channels import audit, limits
from channels.audit import Actor
from channels.errors import ChannelChanged
from channels.models import LONGEST_QUESTION, Channel, FixedAnswer, Wording
from common.pages.numbers import local_number
from common.text import normalize_question

# Of one reply, its question among them.
MOST_WORDINGS = 20
COPIED_AT_ONCE = 500


@transaction.atomic
def add_fixed_answer(
    *,
    channel: Channel,
    question: str,
    answer: str,
    actor: Actor,
    wordings: Sequence[str] = (),
) -> tuple[FixedAnswer, bool]:
    """Add a saved reply. Returns it and whether it is new. `wordings` are other ways to ask.

    Idempotent: the same question, wordings and answer are added only once. Raises PlanLimitReached,
    and ValidationError, which names each invalid field, also for a wording of another reply.
    """
    account = limits.lock_account_of(channel)
    texts = distinct_wordings(question, wordings)
    same = find_match(channel=channel, text=question)
    if same is not None and (texts, answer) == (list_wordings(same), same.answer):
        return same, False
    limits.refuse_beyond(account, limits.SAVED_REPLIES)
    added = FixedAnswer(channel=channel, question=question, answer=answer)
    _save(added, texts)
    others = texts[1:]
    changes = {"other_wordings": ("", _in_lines(others))} if others else {}
    _record("fixed_answer.added", added, actor, answer=(None, answer), **changes)
    return added, True


@transaction.atomic
def copy_fixed_answers(*, source: Channel, target: Channel, actor: Actor) -> int:
    """Copy all saved replies into a new channel of the same account. Returns how many.

    The audit log gets one entry with their number. Raises PlanLimitReached.
    """
    account = limits.lock_account_of(target)
    originals = list(FixedAnswer.objects.filter(channel=source).order_by("pk"))
    if not originals:
        return 0
    limits.refuse_beyond(account, limits.SAVED_REPLIES, adding=len(originals))
    copies = FixedAnswer.objects.bulk_create(
        [
            FixedAnswer(channel=target, question=one.question, answer=one.answer)
            for one in originals
        ],
        batch_size=COPIED_AT_ONCE,
    )
    copy_of = {one.pk: copy.pk for one, copy in zip(originals, copies, strict=True)}
    wordings = Wording.objects.filter(channel=source).order_by("pk")
    Wording.objects.bulk_create(
        [
            Wording(
                fixed_answer_id=copy_of[one.fixed_answer_id],
                channel=target,
                text=one.text,
                normalized=one.normalized,
            )
            for one in wordings
            # A reply that was added since the first query is not copied.
            if one.fixed_answer_id in copy_of
        ],
        batch_size=COPIED_AT_ONCE,
    )
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
    wordings: Sequence[str] | None = None,
    expected_digest: str = "",
) -> list[str]:
    """Change a saved reply. Without `wordings`, its other ways to ask stay. Returns all of them.

    Raises ValidationError, which names each invalid field, and ChannelChanged if `expected_digest`
    (see digest_of) does not match the stored reply, or if the reply was deleted.
    """
    # Because of the row lock, the second of two editors sees what the first one saved.
    stored = FixedAnswer.objects.select_for_update().filter(id=fixed_answer.id).first()
    if stored is None:
        raise ChannelChanged
    had = list_wordings(stored)
    texts = distinct_wordings(question, had[1:] if wordings is None else wordings)
    if (had, stored.answer) == (texts, answer):  # the same form was submitted twice
        return texts
    if expected_digest and expected_digest != _digest(had, stored.answer):
        raise ChannelChanged
    before = {"question": stored.question, "answer": stored.answer}
    before["other_wordings"] = _in_lines(had[1:])
    fixed_answer.question, fixed_answer.answer = question, answer
    _save(fixed_answer, texts)
    after = {"question": question, "answer": answer, "other_wordings": _in_lines(texts[1:])}
    changes = audit.changes_between(before, after)
    if changes:
        _record("fixed_answer.updated", fixed_answer, actor, **changes)
    return texts


def _in_lines(texts: Iterable[str]) -> str:
    return "\n".join(texts)


def digest_of(fixed_answer: FixedAnswer) -> str:
    """Return a digest of wordings and answer. Forms carry it to notice somebody else's save."""
    return _digest(list_wordings(fixed_answer), fixed_answer.answer)


def _digest(texts: list[str], answer: str) -> str:
    return hashlib.sha256(json.dumps([texts, answer]).encode()).hexdigest()


def list_wordings(fixed_answer: FixedAnswer) -> list[str]:
    """Return the stored wordings of a reply, its question first."""
    return [wording.text for wording in fixed_answer.wordings.all()]


def distinct_wordings(question: str, others: Iterable[str]) -> list[str]:
    """Return a question and other ways to ask it, without those that are compared alike."""
    found = {normalize_question(question): question}
    for text in others:
        if text.strip():
            # Those without letters do not count as alike, because each is refused by its text.
            found.setdefault(normalize_question(text) or f"\0{text}", text.strip())
    return list(found.values())


@transaction.atomic
def delete_fixed_answer(*, fixed_answer: FixedAnswer, actor: Actor) -> None:
    """Delete a saved reply. The next visitor with this question gets the model's answer."""
    if FixedAnswer.objects.filter(id=fixed_answer.id).delete()[0]:
        _record("fixed_answer.deleted", fixed_answer, actor, answer=(fixed_answer.answer, None))


def find_match(*, channel: Channel, text: str) -> FixedAnswer | None:
    """Return the saved reply to a visitor's message, or None if the model answers it.

    Its attribute `matched` is the wording.
    """
    normalized = normalize_question(text)
    if not normalized:
        return None
    matching = FixedAnswer.objects.filter(
        wordings__channel=channel, wordings__normalized=normalized
    )
    return matching.annotate(matched=F("wordings__text")).first()


def list_flaws(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return what is wrong with the wordings of a reply themselves, by field."""
    flaws: dict[str, list[str]] = {}
    question, *others = texts
    if not normalize_question(question):
        flaws["question"] = [_("Needs at least one letter or digit.")]
    words = []
    for text in others:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        if not normalize_question(text):
            words.append(_("“%(text)s” needs at least one letter or digit.") % {"text": shown})
        elif len(text) > LONGEST_QUESTION:
            named = {"text": shown, "count": local_number(len(text))}
            named["most"] = local_number(LONGEST_QUESTION)
            words.append(_("“%(text)s” has %(count)s characters. Use at most %(most)s.") % named)
    if len(texts) > MOST_WORDINGS:
        text = _(
            "A reply has at most %(most)s wordings, its question among them; these are %(count)s."
        )
        words.append(text % {"most": MOST_WORDINGS, "count": local_number(len(texts))})
    return flaws | ({"wordings": words} if words else {})


def words_of_duplicate(text: str, owner: str) -> str:
    """Return the sentence for a wording that another reply has."""
    words = _("The saved reply “%(owner)s” already answers “%(text)s”.")
    return words % {"owner": owner, "text": text}


def _check_wordings(fixed_answer: FixedAnswer, texts: Sequence[str]) -> None:
    """Raise ValidationError if wordings are invalid, or those of another reply of the channel."""
    flaws = list_flaws(texts)
    if flaws:
        raise ValidationError(flaws)
    taken = Wording.objects.filter(
        channel_id=fixed_answer.channel_id, normalized__in=map(normalize_question, texts)
    )
    taken = taken.exclude(fixed_answer_id=fixed_answer.pk).select_related("fixed_answer")
    owners = {one.normalized: one.fixed_answer.question for one in taken}
    for number, text in enumerate(texts):
        owner = owners.get(normalize_question(text))
        if owner is not None:
            field = "wordings" if number else "question"
            flaws.setdefault(field, []).append(words_of_duplicate(text, owner))
    if flaws:
        raise ValidationError(flaws)


def _save(fixed_answer: FixedAnswer, texts: Sequence[str]) -> None:
    fixed_answer.clean_fields(exclude={"channel"})
    # Reports a duplicate more clearly than the constraint does.
    _check_wordings(fixed_answer, texts)
    try:
        with transaction.atomic():
            fixed_answer.save()
            fixed_answer.wordings.all().delete()
            Wording.objects.bulk_create(make_wordings(fixed_answer, texts))
    except IntegrityError:  # lost the race for the same wording, which is visible now
        _check_wordings(fixed_answer, texts)
        raise


def make_wordings(fixed_answer: FixedAnswer, texts: Iterable[str]) -> list[Wording]:
    """Return the rows of a stored reply's wordings, its question first."""
    return [
        Wording(
            fixed_answer=fixed_answer,
            channel_id=fixed_answer.channel_id,
            text=text,
            normalized=normalize_question(text),
        )
        for text in texts
    ]


def _record(action: str, fixed_answer: FixedAnswer, actor: Actor, **changes: Any) -> None:
    audit.record(
        action,
        actor=actor,
        account_id=fixed_answer.channel.account_id,
        channel=fixed_answer.channel,
        target=fixed_answer.question,
        changes=changes,
    )

"""Saved replies in a CSV file: reads one, says what it would change, and saves all or nothing.

The first line names the columns: `question`, `answer`, and any number that begin with `wording`.
A row belongs to the stored reply that has its question, or else one of its wordings. Replies that
the file does not have stay as they are.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from channels import audit, fixed_answers, limits
from channels.audit import Actor
from channels.errors import ChannelChanged
from channels.models import LONGEST_QUESTION, LONGEST_SAVED_REPLY, Channel, FixedAnswer, Wording
from common.pages.numbers import local_number
from common.text import normalize_question

MOST_BYTES = 1024 * 1024
MOST_ROWS = 5_000
# Questions and wordings together. On SQLite everybody's writes wait while a file is saved: about a
# second for so many.
MOST_TEXTS = 20_000
ROWS_AT_ONCE = 500
QUESTION, ANSWER, WORDING = "question", "answer", "wording"
_DELIMITERS = (",", ";", "\t")
# The line that tells Excel the delimiter.
_SEPARATOR_HINT = re.compile(r"sep=([,;\t])\r?\n?")


class UnreadableFile(Exception):
    """The file as a whole cannot be read. `words` say why and what helps."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


@dataclass(frozen=True, slots=True)
class Row:
    """A row: where it begins in the file, its distinct wordings, question first, and the answer."""

    line: int
    texts: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the row that begins on this line."""

    line: int
    words: str


@dataclass(frozen=True, slots=True)
class Change:
    """A row that changes a stored reply, with what is stored now."""

    row: Row
    stored: FixedAnswer
    had: tuple[str, ...]


@dataclass(slots=True)
class Plan:
    """What saving a file would do. With `flaws`, it cannot be saved."""

    new: list[Row] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    unchanged: int = 0
    # Stored replies that the file does not have. They stay.
    missing: int = 0
    flaws: list[Flaw] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Identifies the plan, to notice that stored replies changed after it was shown."""
        values = [
            [[one.texts, one.answer] for one in self.new],
            [[one.stored.id, one.had, one.stored.answer] for one in self.changed],
            [self.unchanged, self.missing],
        ]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()


# --- Reading --------------------------------------------------------------------------------------


def read_rows(content: bytes) -> tuple[list[Row], list[Flaw]]:
    """Return a file's rows, and what is wrong with others. Raises UnreadableFile."""
    text = _decode(content)
    hint = _SEPARATOR_HINT.match(text)
    lines_before = 1 if hint else 0
    text = text[hint.end() :] if hint else text
    delimiter, names = _read_header(text, hint[1] if hint else "")
    rows: list[Row] = []
    flaws: list[Flaw] = []
    count = texts = 0
    for number, (line, cells) in enumerate(_records(text, delimiter, flaws)):
        if number == 0 or not any(cell.strip() for cell in cells):
            continue
        count += 1
        if count > MOST_ROWS:
            words = _("The file has more than %(most)s rows. Split it into several files.")
            raise UnreadableFile(words % {"most": local_number(MOST_ROWS)})
        row, wrong = _row_of(line + lines_before, names, cells)
        flaws += [Flaw(line + lines_before, one) for one in wrong]
        if row is not None:
            rows.append(row)
            texts += len(row.texts)
        if texts > MOST_TEXTS:
            words = _(
                "The file has more than %(most)s questions and wordings. Split it into several "
                "files."
            )
            raise UnreadableFile(words % {"most": local_number(MOST_TEXTS)})
    if not rows and not flaws:
        raise UnreadableFile(_("The file has no rows below the names of its columns."))
    return rows, flaws


def _decode(content: bytes) -> str:
    if len(content) > MOST_BYTES:
        raise UnreadableFile(_("The file is larger than 1 MB. Split it into several files."))
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableFile(
            _("The file is not UTF-8 text. In Excel, save it as “CSV UTF-8 (Comma delimited)”.")
        ) from None


def _read_header(text: str, separator: str) -> tuple[str, list[str]]:
    """Return the delimiter and the columns. Each is one of ours, or '' if it has no name."""
    found: list[str] = []
    for delimiter in (separator,) if separator else _DELIMITERS:
        try:
            cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error:
            cells = []
        found = [cell.strip().lower() for cell in cells]
        if QUESTION in found and ANSWER in found:
            break
    else:
        raise UnreadableFile(
            _(
                "The first line must name the columns: question, answer, and a wording column for "
                "each other way to ask."
            )
        )
    for name in found:
        if name and name not in (QUESTION, ANSWER) and not name.startswith(WORDING):
            words = _(
                "There is no column “%(name)s”. The columns are question, answer, and any number "
                "whose name begins with wording."
            )
            raise UnreadableFile(words % {"name": name[:60]})
        if name in (QUESTION, ANSWER) and found.count(name) > 1:
            raise UnreadableFile(_("The column “%(name)s” is there twice.") % {"name": name})
    return delimiter, [WORDING if name.startswith(WORDING) else name for name in found]


def _records(text: str, delimiter: str, flaws: list[Flaw]) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line on which it begins. The first that cannot be read ends it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            words = _("The quotation marks do not match, so the file is not read further.")
            flaws.append(Flaw(line, words))
            return
        if cells is None:
            return
        yield line, cells


def _row_of(line: int, names: list[str], cells: list[str]) -> tuple[Row | None, list[str]]:
    """Return a row, or what is wrong with it."""
    if any(cell.strip() for cell in cells[len(names) :]):
        return None, [_("The row has more cells than the first line has columns.")]
    if any("\x00" in cell for cell in cells):
        return None, [_("Remove the NUL character: it cannot be stored.")]
    plain = [(name, _plain(unguard(cell))) for name, cell in zip(names, cells, strict=False)]
    if any(cell for name, cell in plain if not name):
        return None, [_("A cell is in a column without a name.")]
    found = {QUESTION: "", ANSWER: ""} | dict(plain)
    texts = fixed_answers.distinct_wordings(
        found[QUESTION], [cell for name, cell in plain if name == WORDING]
    )
    words = _flaws_of_text(QUESTION, found[QUESTION], LONGEST_QUESTION)
    if not words:
        words += [one for flaws in fixed_answers.list_flaws(texts).values() for one in flaws]
    words += _flaws_of_text(ANSWER, found[ANSWER], LONGEST_SAVED_REPLY)
    return (None, words) if words else (Row(line, tuple(texts), found[ANSWER]), [])


def _flaws_of_text(name: str, text: str, most: int) -> list[str]:
    is_question = name == QUESTION
    if not text:
        return [_("The question is empty.") if is_question else _("The answer is empty.")]
    if len(text) > most:
        words = (
            _("The question has %(count)s characters. Use at most %(most)s.")
            if is_question
            else _("The answer has %(count)s characters. Use at most %(most)s.")
        )
        return [words % {"count": local_number(len(text)), "most": local_number(most)}]
    return []


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


# What common/pages/spreadsheets.py puts before text that would begin a formula.
_GUARDED = re.compile(r"'+[=+\-@\t\r\n]")


def unguard(cell: str) -> str:
    """Return a cell of the export without the apostrophe that keeps it from being a formula."""
    return cell[1:] if _GUARDED.match(cell) else cell


# --- Comparing ------------------------------------------------------------------------------------


def plan_rows(channel: Channel, rows: Sequence[Row], flaws: Sequence[Flaw] = ()) -> Plan:
    """Return what saving these rows in the channel would do."""
    stored = list(list_replies(channel))
    texts_of = {one.id: tuple(fixed_answers.list_wordings(one)) for one in stored}
    plan = Plan(flaws=list(flaws))
    targets, doubles = _find_targets(rows, stored)
    for double in doubles:
        words = _("An earlier line changes the same saved reply.")
        plan.flaws.append(Flaw(double.line, words))
    for row in rows:
        target = targets.get(row)
        if target is None:
            plan.new += [row] if row not in doubles else []
            continue
        had = texts_of[target.id]
        if _is_same(row, had, target.answer):
            plan.unchanged += 1
        else:
            plan.changed.append(Change(row, target, had))
    found = {one.id for one in targets.values()}
    plan.missing = len(stored) - len(found)
    kept = [row for row in rows if row not in doubles]
    _find_conflicts(plan, kept, [one for one in stored if one.id not in found])
    plan.flaws.sort(key=lambda flaw: flaw.line)
    return plan


def list_replies(channel: Channel) -> QuerySet[FixedAnswer]:
    """Return the replies of a channel with their wordings, oldest first."""
    return FixedAnswer.objects.filter(channel=channel).prefetch_related("wordings").order_by("pk")


def _find_targets(
    rows: Sequence[Row], stored: Sequence[FixedAnswer]
) -> tuple[dict[Row, FixedAnswer], set[Row]]:
    """Return the stored reply of each row that has one, and the rows that name one a second time.

    Looks at the questions first, so that a file can move a wording from one reply to another.
    """
    owner_of = {wording.normalized: one for one in stored for wording in one.wordings.all()}
    targets: dict[Row, FixedAnswer] = {}
    doubles: set[Row] = set()
    found: set[int] = set()
    for row in rows:
        owner = owner_of.get(normalize_question(row.texts[0]))
        if owner is None:
            continue
        if owner.id in found:
            doubles.add(row)
        else:
            targets[row] = owner
            found.add(owner.id)
    for row in rows:
        if row in targets or row in doubles:
            continue
        for text in row.texts[1:]:
            owner = owner_of.get(normalize_question(text))
            if owner is not None and owner.id not in found:
                targets[row] = owner
                found.add(owner.id)
                break
    return targets, doubles


def _is_same(row: Row, had: Sequence[str], answer: str) -> bool:
    return (row.texts, row.answer) == (tuple(map(_plain, had)), _plain(answer))


def _find_conflicts(plan: Plan, rows: Sequence[Row], staying: Sequence[FixedAnswer]) -> None:
    """Add a flaw for each wording that two replies would have."""
    taken = {wording.normalized: one.question for one in staying for wording in one.wordings.all()}
    lines: dict[str, int] = {}
    for row in rows:
        for text in row.texts:
            normalized = normalize_question(text)
            if normalized in taken:
                words = fixed_answers.words_of_duplicate(text, taken[normalized])
                plan.flaws.append(Flaw(row.line, words))
            elif normalized in lines:
                named = {"text": text, "line": lines[normalized]}
                words = _("“%(text)s” is already on line %(line)s.") % named
                plan.flaws.append(Flaw(row.line, words))
            else:
                lines[normalized] = row.line


# --- Saving ---------------------------------------------------------------------------------------


@transaction.atomic
def save_rows(*, channel: Channel, rows: Sequence[Row], expected_digest: str, actor: Actor) -> Plan:
    """Save the new and changed replies of a file. Returns what was done.

    The audit log gets one entry with their numbers. Raises PlanLimitReached, and ChannelChanged if
    the plan is no longer the one with `expected_digest`, or cannot be saved.
    """
    account = limits.lock_account_of(channel)
    # Whoever edits a reply locks its row.
    list(FixedAnswer.objects.select_for_update().filter(channel=channel).values_list("pk"))
    plan = plan_rows(channel, rows)
    if plan.flaws or plan.digest != expected_digest:
        raise ChannelChanged
    if not plan.new and not plan.changed:
        return plan
    if plan.new:
        limits.refuse_beyond(account, limits.SAVED_REPLIES, adding=len(plan.new))
    try:
        _write(channel, plan)
    except IntegrityError:  # somebody gave an edited reply one of these wordings
        raise ChannelChanged from None
    audit.record(
        "fixed_answer.imported",
        actor=actor,
        account_id=account.id,
        channel=channel,
        target=f"{len(plan.new):,} new, {len(plan.changed):,} changed",
    )
    return plan


def _write(channel: Channel, plan: Plan) -> None:
    with transaction.atomic():
        written = FixedAnswer.objects.bulk_create(
            [FixedAnswer(channel=channel, question=r.texts[0], answer=r.answer) for r in plan.new],
            batch_size=ROWS_AT_ONCE,
        )
        for change in plan.changed:
            change.stored.question = change.row.texts[0]
            change.stored.answer = change.row.answer
        replies = [change.stored for change in plan.changed]
        FixedAnswer.objects.bulk_update(
            replies, ["question", "answer"], batch_size=ROWS_AT_ONCE // 2
        )
        reworded = [change for change in plan.changed if change.had != change.row.texts]
        for at in range(0, len(reworded), ROWS_AT_ONCE):
            ids = [change.stored.id for change in reworded[at : at + ROWS_AT_ONCE]]
            Wording.objects.filter(fixed_answer_id__in=ids).delete()
        texts = [(reply, row.texts) for reply, row in zip(written, plan.new, strict=True)]
        texts += [(change.stored, change.row.texts) for change in reworded]
        Wording.objects.bulk_create(
            [one for pair in texts for one in fixed_answers.make_wordings(*pair)],
            batch_size=ROWS_AT_ONCE,
        )

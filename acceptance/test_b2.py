"""B2, the state machine of money: Hypothesis chooses the movements, a plain model predicts them.

Each run has its own account and channel in one database. At the end the books of all runs are
verified together. To run it alone: `pytest acceptance/test_b2.py` (DATABASE_URL as always).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from acceptance.b01_worker import open_session, store_turn
from acceptance.b02_model import Model
from billing import admission, grants, holds
from billing import settlement as billing
from billing.charges import get_messages_used
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen, ReferenceReused
from billing.holds import PlacedHold
from channels.api_keys import issue_api_key
from channels.callers import Caller, find_caller
from channels.models import Account, Channel, LanguageModel
from common import db

RUNS = int(os.environ.get("ACCEPTANCE_RUNS", "100"))
STEPS = int(os.environ.get("ACCEPTANCE_STEPS", "50"))
SEED = int(os.environ.get("ACCEPTANCE_SEED", "1"))
START = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
HOLD_SECONDS = 70
QUOTA = 6
AMOUNTS = st.sampled_from([1, 2, 999_999, 1_000_000, 1_000_001, 2_500_000])

done: Counter[str] = Counter()


class Undo(Exception):
    """Rolls a transaction back on purpose."""


class Books(RuleBasedStateMachine):
    """One account, one channel, and everything that can happen to their credits."""

    open_holds = Bundle("open_holds")
    resolved = Bundle("resolved")

    @initialize(
        amount=st.sampled_from([0, 3_000_000, 9_000_000]), lasts=st.sampled_from([None, 60, 600])
    )
    def begin(self, amount: int, lasts: int | None) -> None:
        self.clock = time_machine.travel(START, tick=False)
        self.traveller = self.clock.start()
        self.now = START
        self.model = Model()
        self.account = Account.objects.create(name="books")
        self.caller = new_caller(self.account)
        self.session = open_session(self.caller)
        if amount:
            self.grant(amount=amount, reference="", lasts=lasts)

    def teardown(self) -> None:
        if hasattr(self, "clock"):
            self.clock.stop()

    # --- grants and corrections ---

    @rule(
        amount=AMOUNTS,
        reference=st.sampled_from(["", "", "a", "b", "c"]),
        lasts=st.sampled_from([None, None, 30, 100, 3600, 90_000]),
    )
    def grant(self, amount: int, reference: str, lasts: int | None) -> None:
        known = self.model.references.get(reference) if reference else None
        expires_at = self.now + timedelta(seconds=lasts) if lasts else None
        if known not in (None, amount):
            with pytest.raises(ReferenceReused):
                self._grant(amount, reference, expires_at)
            done["grant with a reused reference refused"] += 1
            return
        entry, is_new = self._grant(amount, reference, expires_at)
        assert is_new == (known is None)
        assert entry.amount_microcredits == amount
        done["grant" if is_new else "grant replayed"] += 1
        if is_new:
            self.model.grant(amount, expires_at)
            if reference:
                self.model.references[reference] = amount

    def _grant(self, amount: int, reference: str, expires_at: datetime | None) -> Any:
        return grants.grant_credits(
            account=self.account,
            amount_microcredits=amount,
            reason="grant",
            reference=reference,
            expires_at=expires_at,
        )

    @rule(change=AMOUNTS | AMOUNTS.map(lambda amount: -amount))
    def adjust(self, change: int) -> None:
        """Adjust up at any time; down only by what no open hold and no ended grant has."""
        self.model.free_up(self.now)
        if self.model.balance + change < self.model.held():
            with pytest.raises(CreditsExhausted):
                self._adjust(change)
            done["adjust refused"] += 1
            return
        self._adjust(change)
        self.model.adjust(change)
        done["adjust"] += 1

    def _adjust(self, change: int) -> None:
        grants.adjust_credits(
            account=self.account, change_microcredits=change, reason="adjust", actor="test"
        )

    @rule(amount=st.sampled_from([0, -1]))
    def grant_nothing(self, amount: int) -> None:
        with pytest.raises(ValueError, match="more than 0"):
            self._grant(amount, "", None)

    @rule()
    def expire_grants(self) -> None:
        before = self.model.entries
        expected = self.model.expire_grants(self.now)
        assert grants.expire_grants(account_id=self.account.id, now=self.now) == expected
        done["grants looked at"] += expected
        done["grants taken back"] += self.model.entries - before

    @rule()
    def read_available(self) -> None:
        available = billing.get_available_microcredits(account_id=self.account.id, now=self.now)
        assert available == self.model.available(self.now) >= 0
        done["available read"] += 1

    # --- holds ---

    @rule(target=open_holds, amount=AMOUNTS | st.just(0))
    def hold(self, amount: int) -> Any:
        return self._hold(amount)

    @rule(target=open_holds, amount=AMOUNTS)
    def admit(self, amount: int) -> Any:
        """Admit as the chat does: if refused, expire what time has ended, and try once more."""
        first = self._hold(amount)
        if isinstance(first, PlacedHold):
            return first
        billing.free_up(account_id=self.account.id, now=self.now)
        self.model.free_up(self.now)
        return self._hold(amount)

    @rule(target=open_holds, amount=AMOUNTS)
    def hold_past_an_end(self, amount: int) -> Any:
        """Hold everything over the end of a grant, give it back, and hold it again."""
        self.grant(amount=amount, reference="", lasts=30)
        first = self._hold(self.model.balance - self.model.held())
        self.clock_jump(35)
        self.expire_grants()
        if isinstance(first, PlacedHold):
            self.release(first)
        self.clock_jump(5)
        return self._hold(self.model.balance - self.model.held())

    def _hold(self, amount: int) -> Any:
        """Place a hold, or expect the refusal that the model predicts."""
        refusal: type[Exception] | None = None
        if self.model.used(self.now.date()) >= QUOTA:
            refusal = DailyQuotaReached
        elif amount and not self.model.can_hold(amount, self.now):
            refusal = CreditsExhausted
        if refusal:
            with pytest.raises(refusal):
                self._place(amount)
            done[f"hold refused: {refusal.__name__}"] += 1
            return multiple()
        placed = self._place(amount)
        self.model.hold(placed.id, amount, self.now, self.now + timedelta(seconds=HOLD_SECONDS))
        done["hold"] += 1
        return placed

    @transaction.atomic
    def _place(self, amount: int) -> PlacedHold:
        return admission.place_hold(
            caller=self.caller,
            amount_microcredits=amount,
            now=self.now,
            expires_at=self.now + timedelta(seconds=HOLD_SECONDS),
            request_id="b2",
        )

    @rule(
        target=resolved, hold=consumes(open_holds), part=st.sampled_from([0, 1, 50, 99, 100, 1000])
    )
    def capture(self, hold: PlacedHold, part: int) -> PlacedHold:
        """Capture nothing, a part, all, or more than was held."""
        held = self.model.holds[hold.id]
        wanted = held.amount * part // 100
        if held.state != "held" or held.expires_at <= self.now:
            with pytest.raises(HoldNotOpen):
                self._capture(hold, wanted)
            done["late capture refused"] += 1
            return hold
        charged = self._capture(hold, wanted).charged_microcredits
        assert charged == min(wanted, held.amount)
        self.model.capture(hold.id, charged)
        if not held.amount:
            self.model.expire_grants(self.now)  # because reading what is left expires them
        done["capture" if charged == held.amount else "partial capture"] += 1
        return hold

    @transaction.atomic
    def _capture(self, hold: PlacedHold, wanted: int) -> billing.Settlement:
        settlement = billing.capture_hold(
            hold=hold, charge_microcredits=wanted, now=self.now, reason="Reply", request_id="b2"
        )
        store_turn(self.session, hold=hold, charged=settlement.charged_microcredits)
        return settlement

    @rule(hold=open_holds)
    def capture_and_fail(self, hold: PlacedHold) -> None:
        """Expect that a capture whose transaction is rolled back leaves no trace."""
        before = self.session.message_count
        try:
            with transaction.atomic():
                self._capture(hold, hold.amount_microcredits)
                raise Undo
        except (Undo, HoldNotOpen):
            self.session.message_count = before
        done["capture rolled back"] += 1

    @rule(target=resolved, hold=consumes(open_holds))
    def release(self, hold: PlacedHold) -> PlacedHold:
        held = self.model.holds[hold.id]
        assert holds.release_hold(hold=hold, now=self.now) == (held.state == "held")
        if held.state == "held":
            held.state = "released"
        done["release"] += 1
        return hold

    @rule(target=resolved, hold=consumes(open_holds), part=st.sampled_from([0, 50, 100, 1000]))
    def break_off(self, hold: PlacedHold, part: int) -> PlacedHold:
        """Let the provider break off: the customer pays nothing, the operator books the loss."""
        held = self.model.holds[hold.id]
        loss = held.amount * part // 100
        is_open = held.state == "held"
        with transaction.atomic():
            done_now = billing.absorb_loss(hold=hold, loss_microcredits=loss, now=self.now)
        assert done_now == is_open
        if is_open:
            held.state = "released"
            self.model.entries += bool(min(loss, held.amount))
        done["break off"] += 1
        return hold

    @rule(hold=resolved)
    def resolve_again(self, hold: PlacedHold) -> None:
        """Expect that a resolved hold is never resolved again."""
        self.model.expire_holds(self.now)
        holds.expire_holds(account_id=self.account.id, now=self.now)
        assert not holds.release_hold(hold=hold, now=self.now)
        with pytest.raises(HoldNotOpen):
            self._capture(hold, hold.amount_microcredits)
        done["second resolution refused"] += 1

    @rule()
    def expire_holds(self) -> None:
        expected = self.model.expire_holds(self.now)
        assert holds.expire_holds(account_id=self.account.id, now=self.now) == expected
        done["expired holds"] += expected

    @rule(seconds=st.sampled_from([0.000001, 1, 5, 20, 35, HOLD_SECONDS, 3600, 90_000]))
    def clock_jump(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.traveller.move_to(self.now)
        done["clock jump"] += 1

    # --- the database's own refusals ---

    @rule(
        statement=st.sampled_from(
            [
                "UPDATE billing_ledgerentry SET amount_microcredits = amount_microcredits + 1",
                "UPDATE billing_ledgerentry SET reason = 'changed'",
                "DELETE FROM billing_ledgerentry",
            ]
        )
    )
    def change_ledger(self, statement: str) -> None:
        if not self.model.entries:
            return
        refuse_by_database(f"{statement} WHERE credit_account_id = {self.account.id}")
        done["ledger change refused"] += 1

    @rule(
        change=st.sampled_from(
            ["balance_microcredits = held_microcredits - 1", "held_microcredits = -1"]
        )
    )
    def oversell(self, change: str) -> None:
        if not self.model.entries:
            return
        where = f"WHERE account_id = {self.account.id}"
        refuse_by_database(f"UPDATE billing_creditaccount SET {change} {where}")
        done["oversold balance refused"] += 1

    # --- what must hold after every step ---

    @invariant()
    def books_are_as_predicted(self) -> None:
        if not hasattr(self, "model"):
            return
        row = db.fetch_row(_STATE, {"account": self.account.id})
        model = self.model
        expected = (model.balance, model.held(), model.entries, model.balance, model.entries)
        assert tuple(map(int, row or ())) == (expected if model.entries else ())
        assert model.balance == model.rest_of_grants()
        used = get_messages_used(caller=self.caller, now=self.now)
        assert used == model.used(self.now.date()) <= QUOTA


_STATE = """
SELECT c.balance_microcredits, c.held_microcredits, c.entry_count,
       COALESCE(SUM(CASE WHEN e.credit = 'customer' THEN e.amount_microcredits ELSE 0 END)
              - SUM(CASE WHEN e.debit = 'customer' THEN e.amount_microcredits ELSE 0 END), 0),
       COUNT(e.id)
  FROM billing_creditaccount c
  LEFT JOIN billing_ledgerentry e ON e.credit_account_id = c.account_id
 WHERE c.account_id = %(account)s
 GROUP BY c.account_id, c.balance_microcredits, c.held_microcredits, c.entry_count
"""


def new_caller(account: Account) -> Caller:
    """Create a channel with a key, and return its caller."""
    model = LanguageModel.objects.first()
    assert model
    channel = Channel.objects.create(account=account, name="b2", model=model, daily_quota=QUOTA)
    caller = find_caller(issue_api_key(channel=channel, is_test=False).clear)
    assert caller
    return caller


def refuse_by_database(statement: str) -> None:
    """Run a statement that the database itself must refuse."""
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def database(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[None]:
    """The database of DATABASE_URL if the rig created it, else pytest-django's."""
    if "ACCEPTANCE_RUNS" not in os.environ:
        request.getfixturevalue("django_db_setup")
    with django_db_blocker.unblock():
        yield


def shrink_for_a_minute_at_most() -> None:
    """Report a failing run soon, though five minutes of shrinking would find a shorter example."""
    engine.MAX_SHRINKING_SECONDS = 60


def report(result: str) -> None:
    print(f"\nverifyledger {result}")
    for name, count in sorted(done.items()):
        print(f"FIGURE {name.replace(' ', '_').replace(':', '')} {count}")


def test_any_sequence_of_movements_leaves_the_books_as_predicted(database: None) -> None:
    shrink_for_a_minute_at_most()
    profile = settings(
        max_examples=RUNS,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(SEED)(Books), settings=profile)
    output = StringIO()
    call_command("verifyledger", "--json", stdout=output)  # exits with 1 on any difference
    report(output.getvalue())

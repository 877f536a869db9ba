"""If billing or channels rename a step or column, its readers fail at start, not in a request."""

from __future__ import annotations

import runpy
from dataclasses import replace

import pytest
from django.conf import settings

from billing import admission, contract, settlement
from channels import callers
from common.db import Returned, Step, UnknownColumn, UnknownStep


def start(module: str) -> None:
    """Run a module as its first import does, without replacing the loaded one."""
    runpy.run_path(str(settings.BASE_DIR / f"{module.replace('.', '/')}.py"))


@pytest.mark.parametrize(
    "module", ["conversations.chat.turns", "conversations.chat.storing", "billing.throttling"]
)
def test_today_every_name_is_found(module: str) -> None:
    start(module)


@pytest.mark.parametrize(
    ("owner", "step", "reader"),
    [
        (admission, "LOOKED", "conversations.chat.turns"),
        (settlement, "_CAPTURED", "conversations.chat.storing"),
        # For free answers.
        (settlement, "_ALREADY_RESOLVED", "conversations.chat.storing"),
    ],
)
def test_a_renamed_step_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, owner: object, step: str, reader: str
) -> None:
    monkeypatch.setattr(owner, step, replace(getattr(owner, step), name="renamed"))
    with pytest.raises(UnknownStep):
        start(reader)


def test_a_renamed_look_up_of_callers_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(**options: bool) -> Step:
        return replace(callers.known_caller_step(), name="renamed")

    monkeypatch.setattr(callers, "caller_step", renamed)
    with pytest.raises(UnknownStep, match="caller"):
        start("billing.throttling")


@pytest.mark.parametrize("column", contract.LOOKED.columns)
def test_a_renamed_column_stops_the_start(monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    left = [name for name in contract.LOOKED.columns if name != column]
    monkeypatch.setattr(contract, "LOOKED", Returned("looked", (*left, "renamed")))
    with pytest.raises(UnknownColumn, match=column):
        start("conversations.chat.turns")


@pytest.mark.parametrize(
    "column",
    [
        "channel_id",
        "mode",
        "is_channel_enabled",
        "is_account_enabled",
        "requests_per_minute",
        "mark",
    ],
)
def test_a_renamed_column_of_callers_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    left = tuple(name for name in callers.CALLER.columns if name != column)
    monkeypatch.setattr(callers, "CALLER", Returned("caller", left))
    with pytest.raises(UnknownColumn, match=column):
        start("billing.throttling")

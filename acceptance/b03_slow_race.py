"""B3: a slow provider opens no gap between checking a limit and using it up."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import COMPLETIONS, Answer, at_once, by_threads, tally
from tests.harness.rig import CREDIT, Server

MESSAGES = 200
ALLOWED = 20
WARMING_CLIENTS = 16
SLOW = "latency:2000"


def check(run: Run) -> None:
    with run.rig() as rig:
        server = rig.start_server()
        messages = run.count(MESSAGES)
        allowed = run.count(ALLOWED)
        plenty = 10 * messages * CREDIT
        used = rig.create_channel(owner="used@example.com", microcredits=(allowed + 1) * CREDIT)
        quota = rig.create_channel(
            owner="quota@example.com", microcredits=plenty, daily_quota=allowed + 1
        )
        new = rig.create_channel(owner="new@example.com", microcredits=allowed * CREDIT)
        for channel in (used, quota):
            run.report.expect_equal(
                "first", server.client(channel).chat("hello", "first").status, 200
            )
        warm_up(rig, server)
        no_credits, no_quota = "403 credits_exhausted", "429 daily_quota_reached"
        race(run, rig, server.client(used).chat, "last credits", allowed, no_credits)
        race(run, rig, server.client(quota).chat, "last of the quota", allowed, no_quota)
        race(run, rig, server.client(new).chat, "new channel", allowed, no_credits)
        race_for_completions(run, rig, server, allowed)


def warm_up(rig: Rig, server: Server) -> None:
    """Answer some chats, because a worker's first requests are slower than the rest.

    So are the first statements of a connection, and a server is seldom that young.
    """
    plenty = 16 * WARMING_CLIENTS * CREDIT
    warming = server.client(rig.create_channel(owner="warm@example.com", microcredits=plenty))
    warm = [partial(warming.chat, "hello", f"warm {n}") for n in range(8 * WARMING_CLIENTS)]
    by_threads(WARMING_CLIENTS, warm)


def race_for_completions(run: Run, rig: Rig, server: Server, allowed: int) -> None:
    """The same at OpenAI's endpoint, plain and streamed."""
    refusal = f"{COMPLETIONS.no_credits_status} credits_exhausted"
    for is_stream in (False, True):
        name = f"/v1 {'streamed' if is_stream else 'plain'}"
        owner = f"stream-{is_stream}@example.com"
        channel = rig.create_channel(owner=owner, microcredits=allowed * CREDIT)
        ask = partial(server.client(channel).ask, COMPLETIONS, stream=is_stream)
        race(run, rig, ask, name, allowed, refusal)


def race(
    run: Run, rig: Rig, ask: Callable[[str, str], Answer], name: str, allowed: int, refusal: str
) -> None:
    """Send all messages at once: exactly the allowed ones succeed; the others are refused first."""
    messages = run.count(MESSAGES)
    before = rig.mock.stats()["calls"]
    answers = at_once([partial(ask, f"{SLOW} {name} {n}", f"{name} {n}") for n in range(messages)])
    calls = rig.mock.stats()["calls"] - before
    run.report.expect_equal(f"{name}: calls of the provider", calls, allowed)
    expected = {"200": allowed, refusal: messages - allowed}
    run.report.expect_equal(name, tally(answers), expected)
    expect_refused_first(run, name, answers)


def expect_refused_first(run: Run, name: str, answers: list[Answer]) -> None:
    """Expect that no refused caller waits for the answered ones."""
    started = min(answer.started for answer in answers)
    first_success = min((a.ended for a in answers if a.status == 200), default=started)
    refused = [answer.ended for answer in answers if answer.status != 200]
    late = sum(ended > first_success for ended in refused)
    run.report.figure(f"{name}: last refusal_s", max(refused, default=started) - started)
    run.report.figure(f"{name}: first success_s", first_success - started)
    run.report.expect(not late, f"{name}: {late} refusals came after the first success")

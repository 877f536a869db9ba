"""R7: a session runs one turn at a time, in order, and only a few may wait for theirs."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import Answer, Client, at_once, by_threads, tally
from tests.harness.rig import CREDIT

SESSIONS = 100
SESSIONS_SHORT = 40
SENDS = 10
SESSIONS_AT_ONCE = 5
CROWD = 100
MOST_WAITING = 8
AT_ONCE_SECONDS = 2.0
CALM_SECONDS = 2.0


def check(run: Run) -> None:
    with run.rig() as rig:
        server = rig.start_server()
        channel = rig.create_channel(microcredits=10**5 * CREDIT)
        client = server.client(channel)
        check_order(run, rig, client)
        check_crowd(run, client)


def check_order(run: Run, rig: Rig, client: Client) -> None:
    """Ten sends at once to each of several sessions: strictly one after the other."""
    sessions = [f"session {n}" for n in range(run.count(SESSIONS, short=SESSIONS_SHORT))]
    answers: list[Answer] = []
    for at in range(0, len(sessions), SESSIONS_AT_ONCE):
        sends = [
            partial(client.chat, f"latency:20 {session} send {n}", session)
            for session in sessions[at : at + SESSIONS_AT_ONCE]
            for n in range(SENDS)
        ]
        run.random.shuffle(sends)
        answers += at_once(sends)
    strange = [a for a in answers if a.status != 200 and a.code != "session_busy"]
    run.report.expect(not strange, f"sends: {tally(strange)}")
    run.report.figure("sends", tally(answers))
    # One runs and eight wait, so of ten at once at most one is refused.
    busy = sum(a.status == 409 for a in answers)
    run.report.expect(busy <= len(sessions), f"{busy} of {len(answers)} sends were turned away")
    prompts = prompts_by_message(rig)
    for session in sessions:
        for words in out_of_order(client, session, prompts):
            run.report.expect(False, words)


def prompts_by_message(rig: Rig) -> dict[str, list[list[tuple[str, str]]]]:
    """Return the prompts that the provider saw, without the system message, by last message."""
    found = defaultdict(list)
    for prompt in rig.mock.prompts():
        parts = [(part["role"], part["content"]) for part in prompt if part["role"] != "system"]
        found[parts[-1][1]].append(parts)
    return found


def out_of_order(
    client: Client, session: str, prompts: dict[str, list[list[tuple[str, str]]]]
) -> list[str]:
    """Return what is wrong with a session: its roles, or a prompt unlike the turns before it."""
    history = client.history(session)
    roles = [role for role, _ in history]
    if roles != ["user", "assistant"] * (len(history) // 2):
        return [f"{session}: roles {roles}"]
    problems = []
    for position in range(0, len(history), 2):
        seen = prompts[history[position][1]]
        if seen != [history[: position + 1]]:
            problems.append(f"{session}: turn {position // 2} had the prompts {seen}")
    return problems


def check_crowd(run: Run, client: Client) -> None:
    """100 sends to one session: one runs, eight wait, the rest are refused. Others go on."""
    # Threads that call other sessions all the while.
    others = [partial(client.chat, f"calm {n}", f"calm {n}") for n in range(20)]
    # Long enough that all are sent before the first is answered, even on a busy machine.
    crowd = [partial(client.chat, f"latency:1500 crowd {n}", "crowd") for n in range(CROWD)]
    answers = at_once([partial(by_threads, 1, others), *[partial(alone, send) for send in crowd]])
    calm, sends = answers[0], [answer for one in answers[1:] for answer in one]
    run.report.figure("crowd", tally(sends))
    turned_away = [a for a in sends if a.code == "session_busy"]
    answered = [a for a in sends if a.status == 200]
    run.report.expect_equal("crowd: others", len(sends) - len(turned_away) - len(answered), 0)
    # A caller who comes after a turn has ended may find room again.
    longest = max((a.seconds for a in turned_away), default=0.0)
    run.report.figure("longest wait for a 409_s", longest)
    run.report.expect(longest <= AT_ONCE_SECONDS, f"a 409 took {longest:.2f} s")
    run.report.expect(
        all("retry-after" in a.headers for a in turned_away), "a 409 has no Retry-After"
    )
    expect_at_most_waiting(run, answered, turned_away)
    slowest = max(a.seconds for a in calm)
    run.report.figure("slowest of other sessions_s", slowest)
    run.report.expect({a.status for a in calm} == {200}, f"other sessions: {tally(calm)}")
    run.report.expect(slowest <= CALM_SECONDS, f"another session waited {slowest:.2f} s")


def expect_at_most_waiting(run: Run, answered: list[Answer], turned_away: list[Answer]) -> None:
    """Expect that at most nine were inside during refusals: one running, eight waiting."""
    last_refusal = max((a.ended for a in turned_away), default=0.0)
    ended_before = sum(a.ended < last_refusal for a in answered)
    run.report.figure("answered of the crowd", len(answered))
    run.report.expect(
        len(answered) - ended_before <= 1 + MOST_WAITING,
        f"{len(answered)} of the crowd were answered, {ended_before} before the last refusal",
    )
    run.report.expect(len(answered) > MOST_WAITING, f"only {len(answered)} were answered")


def alone(send: partial[Answer]) -> list[Answer]:
    return [send()]

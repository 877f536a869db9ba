"""B4: whatever a provider does wrong costs nothing, leaves no trace, and can be retried."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

from acceptance.checks import Run
from acceptance.mock_faults import ANSWERED, EMPTY, FAULTS, RETRY_AFTER, SLOW
from acceptance.rig import Rig
from tests.harness.clients import ENDPOINTS, Answer, Client, Endpoint, by_threads
from tests.harness.databases import value
from tests.harness.processes import wait_until
from tests.harness.rig import CREDIT, Server, Wanted, first_model

DEADLINE = 3
TIMES = 50  # at each endpoint
TIMES_SHORT = 5
# At the same time. A third of that on SQLite, whose single writer is meant for small sites.
CLIENTS = {"pg": 24, "sqlite": 8}
# The provider refuses this request. /v1 answers 400 with the provider's code.
REFUSED = ("400", "strange400")
# The flat price is 1 credit. These prices make every token of an estimate visible in the charge.
PER_1K_INPUT, PER_1K_OUTPUT = "0.1", "0.2"


@dataclass(frozen=True, slots=True)
class Scene:
    """One session that has had one good turn before the fault."""

    client: Client
    endpoint: Endpoint
    session_id: str
    rig: Rig
    is_stream: bool

    def ask(self, message: str) -> Answer:
        return self.client.ask(self.endpoint, message, self.session_id, stream=self.is_stream)

    def questions(self) -> list[str] | None:
        """Return the messages the session remembers, or None if there are no sessions."""
        if not self.endpoint.has_sessions:
            return None
        history = self.client.history(self.session_id)
        if [role for role, _ in history] != ["user", "assistant"] * (len(history) // 2):
            return [f"{role}: {text}" for role, text in history]
        return [text for _, text in history[::2]]

    def __str__(self) -> str:
        return f"{self.endpoint.path} {'streamed' if self.is_stream else 'plain'}"


def check(run: Run) -> None:
    deadlines = dict.fromkeys(("PROVIDER_DEADLINE", "PROVIDER_STREAM_DEADLINE"), str(DEADLINE))
    with run.rig(deadlines) as rig:
        set_prices(rig)
        server = rig.start_server()
        times = run.count(TIMES, short=TIMES_SHORT)
        width = CLIENTS[run.kind]
        clients = separate_clients(rig, server, width)
        tasks: list[Callable[[], list[str]]] = [
            partial(play, rig, clients, endpoint, fault, f"{fault}-{n}-{is_stream}", is_stream)
            for n in range(times)
            for endpoint in ENDPOINTS
            for fault in FAULTS
            for is_stream in (False, True)
        ]
        # Spread the slow faults evenly, so that they wait at the same time.
        run.random.shuffle(tasks)
        problems = [problem for found in by_threads(width, tasks) for problem in found]
        summarize(run, problems, len(tasks))
        # Each one plain and streamed, under /v1.
        expect_nothing_held(run, rig, empty_answers=times * len(EMPTY) * 2)
        expect_estimates(run, rig)


def set_prices(rig: Rig) -> None:
    """Give the first model's tokens a price. The other models are copies of it."""
    prices = ("--per-1k-input", PER_1K_INPUT, "--per-1k-output", PER_1K_OUTPUT)
    rig.manage("setprice", "--model", first_model(rig), *prices)


def separate_clients(rig: Rig, server: Server, count: int) -> SimpleQueue[Client]:
    """Return one channel for each thread, each with its own model and so its own breaker.

    Another check covers open breakers. Here each fault must reach the gateway.
    """
    wanted = [
        Wanted(owner=f"{n}@example.com", microcredits=10**5 * CREDIT, model_id=f"model-{n}")
        for n in range(count)
    ]
    clients: SimpleQueue[Client] = SimpleQueue()
    for channel in rig.create_channels(wanted):
        clients.put(server.client(channel))
    return clients


def play(
    rig: Rig,
    clients: SimpleQueue[Client],
    endpoint: Endpoint,
    fault: str,
    session_id: str,
    is_stream: bool,
) -> list[str]:
    """Play one scene with a client that no other thread uses meanwhile."""
    client = clients.get()
    try:
        scene = Scene(client, endpoint, session_id, rig, is_stream)
        return [f"{fault}, {scene}: {words}" for words in fail_then_retry(scene, fault)]
    finally:
        clients.put(client)


def fail_then_retry(scene: Scene, fault: str) -> list[str]:
    """Play a good turn, one with the fault, and a good one again. Returns the broken promises."""
    first = scene.ask("before")
    if not first.is_success:
        return [f"the turn before it got {first.status} {first.code}"]
    answer = scene.ask(f"fault:{fault} please")
    if fault in ANSWERED:
        return unlike_answer(answer)
    if fault in EMPTY and not scene.endpoint.has_sessions:
        return [] if answer.is_success else [f"got {answer.status} {answer.code}"]
    problems = unlike_failure(scene, fault, answer)
    if scene.questions() not in (None, ["before"]):
        problems.append("it left a trace in the history")
    problems += unlike_released(scene, answer)
    if fault in RETRY_AFTER:
        time.sleep(1.1)
    retry = scene.ask("after")
    questions = scene.questions()
    if not retry.is_success or questions not in (None, ["before", "after"]):
        problems.append(f"the retry got {retry.status} {retry.code}, history {questions}")
    return problems


def unlike_failure(scene: Scene, fault: str, answer: Answer) -> list[str]:
    """Return how an answer differs from one JSON error in time."""
    problems = []
    status = 200 if answer.is_stream else scene.endpoint.provider_error_status
    is_told = fault in REFUSED and not scene.endpoint.has_sessions and answer.status == 400
    if not is_told and (answer.status, answer.code) != (status, "provider_error"):
        problems.append(f"got {answer.status} {answer.code}")
    if answer.seconds > DEADLINE + 1:
        problems.append("took longer than the deadline and 1 s")
    return problems


def unlike_answer(answer: Answer) -> list[str]:
    """Return how an answer differs from a success with estimated usage."""
    if not answer.is_success:
        return [f"got {answer.status} {answer.code}"]
    if answer.end["usage"].get("estimated") is not True:
        return [f"usage is not marked as estimated: {answer.end['usage']}"]
    return []


def unlike_released(scene: Scene, answer: Answer) -> list[str]:
    """Wait up to a second for the hold of a failed call to be released."""
    request_id = answer.headers.get("x-request-id", "")
    statement = "SELECT COUNT(*) FROM billing_hold WHERE request_id = %s AND state = 'held'"
    for _ in range(5):
        if not value(scene.rig.database, statement, [request_id]):
            return []
        time.sleep(0.25)
    return ["its hold is still open after 1 s"]


def summarize(run: Run, problems: list[str], total: int) -> None:
    """Report each problem once, with how often it occurred."""
    counts: dict[str, int] = defaultdict(int)
    for problem in problems:
        counts[problem] += 1
    for problem, count in sorted(counts.items()):
        run.report.expect(False, f"{problem} ({count} times)")
    run.report.figure("faults", len(FAULTS))
    run.report.figure("slow_faults", len(SLOW))
    run.report.figure("spoiled calls", total)


def expect_nothing_held(run: Run, rig: Rig, *, empty_answers: int) -> None:
    """Expect that nothing is held, and that exactly the provider's completions were charged."""
    held = "SELECT SUM(held_microcredits) FROM billing_creditaccount"
    seconds = wait_until(
        lambda: not value(rig.database, held), seconds=5, what="no credits held", pause=0.1
    )
    run.report.figure("all released_s", seconds)
    charges = value(rig.database, "SELECT COUNT(*) FROM billing_ledgerentry WHERE kind = 'charge'")
    run.report.expect_equal("charges", charges, len(rig.mock.completions()) + empty_answers)


def expect_estimates(run: Run, rig: Rig) -> None:
    """Expect a charge of the flat price plus four characters a token, rounded up, for bad usage."""
    rows = rig.database.rows(
        "SELECT charged_microcredits FROM conversations_message WHERE is_estimated"
    )
    expected = Counter(
        estimated_price(line["prompt_lengths"], line["reply"])
        for line in rig.mock.completions()
        if line["fault"] in ANSWERED
    )
    run.report.expect_equal("estimates", Counter(charged for (charged,) in rows), expected)
    run.report.figure("estimates", len(rows))


def estimated_price(prompt_lengths: list[int], reply: str) -> int:
    """Return 1 credit, 0.1 for 1,000 input and 0.2 for 1,000 output tokens, in micro-credits."""
    tokens_in = sum(-(-length // 4) for length in prompt_lengths)
    return CREDIT + 100 * tokens_in + 200 * -(-len(reply) // 4)

"""R4: a slow provider is cut off at the deadline, a provider that sends too much at the cap.

Each fault has its own models, with fewer calls than open a breaker, so that all calls reach it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import CHAT, Answer, Client, at_once, tally
from tests.harness.costs import measured
from tests.harness.processes import count_in_log
from tests.harness.rig import CREDIT, Server, Wanted

DEADLINE = 3
MARGIN_SECONDS = 1.0
# Five failures in a row open a breaker.
CALLS_OF_A_MODEL = 4
MODELS, MODELS_SHORT = 12, 1
SLOW = ("drip", "trickle_headers")
# The server's word for what was wrong.
LARGE = {"hugebody": "too_large", "endless": "too_large", "gzipbomb": "encoding"}
MOST_MIB = 5.0


def check(run: Run) -> None:
    deadlines = dict.fromkeys(("PROVIDER_DEADLINE", "PROVIDER_STREAM_DEADLINE"), str(DEADLINE))
    with run.rig(deadlines) as rig:
        server = rig.start_server(workers=1)
        scene = Scene(run, rig, server)
        workers = server.worker_pids()
        expect_slow_ones_cut(scene)
        expect_large_ones_cut(scene)
        run.report.expect_equal("workers", server.worker_pids(), workers)


@dataclass(frozen=True, slots=True)
class Scene:
    run: Run
    rig: Rig
    server: Server

    def ask(
        self,
        name: str,
        faults: tuple[str, ...],
        *,
        streams: tuple[bool, ...],
        together: bool = True,
    ) -> list[Answer]:
        """Make all calls of these faults, at once or one after the other."""
        count = MODELS if self.run.is_long else MODELS_SHORT
        kinds = [(fault, is_stream) for fault in faults for is_stream in streams] * count
        wanted = [
            Wanted(f"{name}-{number}@example.com", 100 * CREDIT, model_id=f"{name}-{number}")
            for number in range(len(kinds))
        ]
        channels = self.rig.create_channels(wanted)
        tasks = [
            partial(
                call, self.server.client(channel), f"fault:{fault} call {number}", stream=is_stream
            )
            for channel, (fault, is_stream) in zip(channels, kinds, strict=True)
            for number in range(CALLS_OF_A_MODEL)
        ]
        return at_once(tasks) if together else [task() for task in tasks]


def call(client: Client, message: str, *, stream: bool) -> Answer:
    return client.ask(CHAT, message, message, stream=stream)


def expect_slow_ones_cut(scene: Scene) -> None:
    answers = scene.ask("slow", SLOW, streams=(False, True))
    slowest = max(answer.seconds for answer in answers)
    report = scene.run.report
    report.figure("slowest_s", slowest)
    report.expect(slowest <= DEADLINE + MARGIN_SECONDS, f"an answer after {slowest:.2f} s")
    report.expect(all(is_failure(answer) for answer in answers), f"slow: {tally(answers)}")


def expect_large_ones_cut(scene: Scene) -> None:
    (worker,) = scene.server.worker_pids()
    report = scene.run.report
    # What the first calls of a process allocate once is not growth.
    for number in range(3):
        scene.ask(f"warm{number}", (*LARGE,), streams=(False, True), together=False)
    for is_stream in (False, True):
        with measured(worker) as growth:
            # One after the other, because the limit is on each call, not on their number.
            answers = scene.ask(
                f"large{is_stream:d}", (*LARGE,), streams=(is_stream,), together=False
            )
        name = "stream_mib" if is_stream else "plain_mib"
        report.figure(name, growth.mib)
        report.expect(all(is_failure(answer) for answer in answers), f"{name}: {tally(answers)}")
        report.expect(growth.mib <= MOST_MIB, f"{name}: {growth.mib:.1f} MiB more")
    for reason, count in reasons(scene.run):
        found = count_in_log(scene.run.folder / "server-0.log", f'"reason":"{reason}"', count)
        report.expect(found >= count, f"{reason}: {found} calls of {count}")


def reasons(run: Run) -> Iterator[tuple[str, int]]:
    """Yield what the log must say, and how often: for all answers above, or only plain ones."""
    models = MODELS if run.is_long else MODELS_SHORT
    plain = 4 * models * CALLS_OF_A_MODEL  # warm-up three times, and the measured one
    for reason in sorted(set(LARGE.values())):
        yield reason, plain * [*LARGE.values()].count(reason)


def is_failure(answer: Answer) -> bool:
    return answer.code == "provider_error"

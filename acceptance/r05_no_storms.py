"""R5: failing routes are left alone and used again soon; one failing route disturbs nobody.

A route that is out gets the gateway's probes, never a message.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from acceptance.checks import Run
from acceptance.rig import PROBE, Called, Mock, Rig
from tests.harness.clients import ENDPOINTS, Answer, Client, at_moments, tally
from tests.harness.rig import CREDIT, Server

PER_SECOND = 20
SECONDS, SECONDS_SHORT = 60, 15
FIRST_ONLY_SECONDS, FIRST_ONLY_SECONDS_SHORT = 30, 8
RECOVERY_SECONDS = 10
# A moment of good traffic afterwards, so that there is something to compare.
CALM_SECONDS = 1
CLIENTS = 96
DEADLINE = 4
# Failing at once, by a closed connection, permanently (a wrong key), and by never answering.
FAULTS = ("500", "close", "401", "timeout")
# Calls in flight when a breaker opens go on: one that hangs, then one on the second route. Then a
# probe must hang as well, for a quarter of the deadline.
OPENING_SECONDS = {"timeout": DEADLINE + DEADLINE / 4 + 1.0}
MOST_CALLS = 1.1


@dataclass(frozen=True, slots=True)
class Scene:
    """A model with two routes, and a client that uses it."""

    run: Run
    rig: Rig
    routes: dict[str, Mock]
    client: Client

    def send(self, seconds: float, name: str) -> list[Answer]:
        """Send at a steady pace to both endpoints. Every second message is streamed."""

        def ask(number: int) -> Answer:
            endpoint = ENDPOINTS[number % len(ENDPOINTS)]
            is_stream = number // len(ENDPOINTS) % 2 == 1
            message = f"{name} {number}"
            return self.client.ask(endpoint, message, message, stream=is_stream)

        moments = [number / PER_SECOND for number in range(int(seconds * PER_SECOND))]
        return at_moments(CLIENTS, moments, ask)

    def calls(self, name: str) -> dict[str, list[Called]]:
        """Return the calls that reached each route from the messages of this name."""
        return {
            route: [call for call in mock.calls() if call.message.startswith(f"{name} ")]
            for route, mock in self.routes.items()
        }

    def count_probes(self, route: str, *, since: float, until: float) -> int:
        """Return how often the gateway itself probed a route between two moments."""
        calls = self.routes[route].calls()
        return sum(call.message == PROBE and since < call.at < until for call in calls)

    @contextmanager
    def failing(self, fault: str, *routes: str) -> Iterator[None]:
        """Make these routes fail during the block."""
        for route in routes:
            self.routes[route].set(fault=fault)
        yield
        for route in routes:
            self.routes[route].set(fault="")


def check(run: Run) -> None:
    settings = {"PROVIDER_ALLOW_PRIVATE_ADDRESSES": "true", "PROVIDER_DEADLINE": str(DEADLINE)}
    with run.rig(settings) as rig:
        server = rig.start_server()
        # The short set tries one kind of failure, which depends on the seed; all use the same code.
        everywhere = FAULTS if run.is_long else run.random.sample(FAULTS, 1)
        first_only = FAULTS if run.is_long else run.random.sample(FAULTS, 1)
        for fault in everywhere:
            check_all_fail(make_scene(run, rig, server, f"all-{fault}"), fault)
        scene = make_scene(run, rig, server, "first")
        for fault in first_only:
            check_first_fails(scene, fault)


def make_scene(run: Run, rig: Rig, server: Server, name: str) -> Scene:
    """Create a channel with its own model, and so its own breakers."""
    channel = rig.create_channel(
        owner=f"{name}@example.com", microcredits=10**5 * CREDIT, model_id=name
    )
    second = rig.add_route(f"second-{name}", name)
    return Scene(run, rig, {"first": rig.mock, "second": second}, server.client(channel))


def check_all_fail(scene: Scene, fault: str) -> None:
    """All routes fail while messages keep arriving; then the routes recover."""
    report, name = scene.run.report, f"all {fault}"
    seconds = SECONDS if scene.run.is_long else SECONDS_SHORT
    recovered_name = f"recovered from {fault}"
    with scene.failing(fault, *scene.routes):
        started = time.monotonic()
        failed = scene.send(seconds, name)
        ended = time.monotonic()
    mended = time.monotonic()
    answers = scene.send(RECOVERY_SECONDS + CALM_SECONDS, recovered_name)
    strange = [answer for answer in failed if answer.code != "provider_error"]
    report.expect(not strange, f"{name}: {tally(strange)}")
    calls = scene.calls(name)
    expect_no_storm(scene, name, calls, len(failed))
    opened = started + OPENING_SECONDS.get(fault, 1.5)
    for route, made in calls.items():
        asked = sum(call.at > opened for call in made)
        report.expect_equal(f"{name}: messages to the open {route}", asked, 0)
        probes = scene.count_probes(route, since=opened, until=ended)
        report.figure(f"{name}: probes of the {route}", probes)
        report.expect(
            1 <= probes <= ended - opened + 1, f"{name}: {probes} probes in {ended - opened:.1f} s"
        )
    late = [a.started - mended for a in answers if not a.is_success]
    report.figure(f"{name}: full traffic after_s", max(late, default=0.0))
    report.expect(max(late, default=0.0) <= RECOVERY_SECONDS, f"{recovered_name}: {tally(answers)}")


def expect_no_storm(scene: Scene, name: str, calls: dict[str, list[Called]], requests: int) -> None:
    """Expect that no message reaches a route twice, and few reach any route more than once."""
    total = sum(map(len, calls.values()))
    scene.run.report.figure(f"{name}: calls for {requests} requests", total)
    scene.run.report.expect(
        total <= MOST_CALLS * requests, f"{name}: {total} calls for {requests} requests"
    )
    for route, made in calls.items():
        most = max(Counter(call.message for call in made).values(), default=0)
        scene.run.report.expect(most <= 1, f"{name}: {most} calls of the {route} for one request")


def check_first_fails(scene: Scene, fault: str) -> None:
    """Only the first route fails, and no caller notices."""
    name = f"first {fault}"
    seconds = FIRST_ONLY_SECONDS if scene.run.is_long else FIRST_ONLY_SECONDS_SHORT
    with scene.failing(fault, "first"):
        answers = scene.send(seconds, name)
    scene.run.report.expect_equal(name, tally(answers), {"200": len(answers)})
    made = scene.calls(name)
    scene.run.report.figure(f"{name}: calls of the first", len(made["first"]))
    scene.run.report.expect_equal(f"{name}: calls of the second", len(made["second"]), len(answers))

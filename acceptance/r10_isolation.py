"""R10: whatever one account's requests make a provider say, no other account notices.

Account A sends requests whose failures only concern themselves, to both endpoints, plain and
streamed. The provider answers as real ones have done. Account B chats meanwhile. Then the provider
really fails, also in ways that no table names, and recovers while A goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

from acceptance.checks import Run
from acceptance.mock_faults import OWN_FAULTS, STRANGE_FAULTS
from acceptance.mock_recorded import DOUBTFUL_FAULTS, OWN_SHAPES
from acceptance.rig import PROBE, Mock, Rig
from conversations.tests.recorded.shapes import Refused, Shape
from tests.harness.clients import (
    CHAT,
    COMPLETIONS,
    ENDPOINTS,
    Answer,
    Client,
    Endpoint,
    at_moments,
    tally,
)
from tests.harness.databases import value
from tests.harness.processes import wait_until
from tests.harness.rig import CREDIT, Server

TIMES, TIMES_SHORT = 100, 4
PER_SECOND, PER_SECOND_SHORT = 10, 30
JUNK_PER_SECOND = 10
CHATS, CHATS_BACK = 100, 20
CLIENTS = 16
DEADLINE = 4
RECOVERY_SECONDS = 10
# Five failures at this pace, and a probe.
OPENING_SECONDS = 5.0
OUTAGE_SECONDS = 3.0
KNOWN_CODES = frozenset(
    ("", "provider_error", "content_filtered", "context_length_exceeded", "invalid_request")
)
KNOWN_STATUSES = frozenset((200, 400, 422, 500, 502))
# What A continues to send while the provider is down and recovers, including doubtful faults.
JUNK = ("stopwords", "flagged", "notools", "strange400", "garbage", "500")


@dataclass(frozen=True, slots=True)
class Order:
    """One of A's requests: how the provider answers it, and how it is sent."""

    fault: str
    endpoint: Endpoint
    is_stream: bool
    shape: Shape | None = None

    @property
    def message(self) -> str:
        return self.fault if self.shape else f"fault:{self.fault}"

    def is_clear(self, answer: Answer) -> bool:
        """Whether A got an answer, or the reason why there is none, and nothing of ours broke."""
        codes, statuses = KNOWN_CODES, KNOWN_STATUSES
        if self.shape and isinstance(self.shape.v1, Refused):
            statuses = statuses | {*self.shape.v1.statuses}
            if self.shape.v1.code is None:  # the provider's own business
                return answer.status in statuses
            codes = codes | {self.shape.v1.code}
        return answer.code in codes and answer.status in statuses


@dataclass(frozen=True, slots=True)
class Scene:
    """A model with one or two routes, and two accounts that use it."""

    run: Run
    rig: Rig
    name: str
    mocks: list[Mock]
    attacker: Client
    other: Client

    def attack(self, order: Order, number: int) -> Answer:
        """Send one of A's requests."""
        return self.attacker.ask(
            order.endpoint,
            f"{order.message} {number}",
            f"{self.name} {order.fault} {number}",
            stream=order.is_stream,
            **(order.shape.request if order.shape else {}),
        )

    def chat(self, number: int) -> Answer:
        return self.other.ask(CHAT, f"hello {number}", f"{self.name} {number}")

    def count_rows(self) -> int:
        """Return how many health rows this model's routes have."""
        statement = "SELECT COUNT(*) FROM channels_routehealth WHERE provider_model IN (%s, %s)"
        return int(value(self.rig.database, statement, [self.name, "mock-model"]))

    def probes(self, *, since: float) -> int:
        """Return how often the gateway itself probed the first route since a moment."""
        return sum(call.message == PROBE and call.at > since for call in self.mocks[0].calls())

    @contextmanager
    def junk(self) -> Iterator[None]:
        """Let A send its bad requests at a steady pace during the block."""
        stop = Event()

        def send() -> None:
            number = 0
            while not stop.wait(1 / JUNK_PER_SECOND):
                self.attack(in_turn(JUNK[number % len(JUNK)], number), number)
                number += 1

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            try:
                yield
            finally:
                stop.set()
                sending.result()


def check(run: Run) -> None:
    settings = {"PROVIDER_ALLOW_PRIVATE_ADDRESSES": "true", "PROVIDER_DEADLINE": str(DEADLINE)}
    with run.rig(settings) as rig:
        server = rig.start_server()
        for routes in (1, 2):
            scene = make_scene(run, rig, server, routes)
            check_requests(scene)
            outages = [*STRANGE_FAULTS, "close", "401"], DOUBTFUL_FAULTS
            for faults in outages:
                for fault in faults if run.is_long else run.random.sample(faults, 1):
                    check_outage(scene, fault)


def make_scene(run: Run, rig: Rig, server: Server, routes: int) -> Scene:
    """Create a model with its own breakers, and a channel for each account."""
    name = f"routes-{routes}"
    attacker, other = (
        server.client(
            rig.create_channel(
                owner=f"{who}-{name}@example.com", microcredits=10**5 * CREDIT, model_id=name
            )
        )
        for who in ("a", "b")
    )
    mocks = [rig.mock]
    if routes == 2:
        mocks.append(rig.add_route("second", name))
    return Scene(run, rig, name, mocks, attacker, other)


def in_turn(fault: str, number: int) -> Order:
    """Return a request to each endpoint in turn. Every second one is streamed."""
    return Order(fault, ENDPOINTS[number // 2 % 2], bool(number % 2))


def list_orders(run: Run) -> list[Order]:
    """Return everything A sends: each kind of request, and one for each recorded shape.

    Each shape plain and streamed, with the members it needs, which only /v1 accepts.
    """
    times = range(run.count(TIMES, short=TIMES_SHORT))
    orders = [in_turn(fault, number) for fault in OWN_FAULTS for number in times]
    orders += [
        Order(shape.name, endpoint, is_stream, shape)
        for shape in OWN_SHAPES
        for endpoint in (ENDPOINTS if run.is_long and not shape.request else (COMPLETIONS,))
        for is_stream in (False, True)
    ]
    run.random.shuffle(orders)
    return orders


def check_requests(scene: Scene) -> None:
    """A sends each kind of request while B chats: no chat fails, and no route is blamed."""
    run, name = scene.run, scene.name
    orders = list_orders(run)
    pace = PER_SECOND if run.is_long else PER_SECOND_SHORT
    seconds = len(orders) / pace
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        sending = pool.submit(
            at_moments,
            CLIENTS,
            [number / pace for number in range(len(orders))],
            lambda number: (orders[number], scene.attack(orders[number], number)),
        )
        moments = [number * seconds / CHATS for number in range(CHATS)]
        chatting = pool.submit(at_moments, CLIENTS, moments, scene.chat)
        attacks, answers = sending.result(), chatting.result()
    run.report.figure(f"{name}: requests of A", len(attacks))
    run.report.expect_equal(f"{name}: chats of B", tally(answers), {"200": CHATS})
    run.report.expect_equal(f"{name}: rows of route health", scene.count_rows(), 0)
    run.report.expect_equal(f"{name}: probes", scene.probes(since=started), 0)
    strange = [
        f"{order.fault}{' streamed' * order.is_stream}: {answer.status} {answer.code}"
        for order, answer in attacks
        if not order.is_clear(answer)
    ]
    run.report.expect(not strange, f"{name}: A got {sorted(set(strange))}")


def check_outage(scene: Scene, fault: str) -> None:
    """The provider fails for everyone. It is left alone until it recovers, whatever A sends."""
    report, name = scene.run.report, f"{scene.name}, {fault}"
    with scene.junk():
        for mock in scene.mocks:
            mock.set(fault=fault)
        opened = wait_until(
            lambda: is_open(scene), seconds=OPENING_SECONDS, what=f"{name}: the breaker opens"
        )
        report.figure(f"{name}: open after_s", opened)
        since = time.monotonic()
        time.sleep(OUTAGE_SECONDS)
        probes, passed = scene.probes(since=since), time.monotonic() - since
        report.expect(probes <= passed + 1, f"{name}: {probes} probes in {passed:.1f} s")
        for mock in scene.mocks:
            mock.set(fault="")
        closed = wait_until(
            lambda: scene.chat(0).is_success, seconds=RECOVERY_SECONDS, what=f"{name}: back"
        )
        report.figure(f"{name}: back after_s", closed)
        answers = [scene.chat(number) for number in range(CHATS_BACK)]
    report.expect_equal(f"{name}: chats once it is back", tally(answers), {"200": CHATS_BACK})


def is_open(scene: Scene) -> bool:
    """Send a chat. Returns whether it failed without reaching any provider."""
    message = f"{scene.name} {time.monotonic()}"
    answer = scene.other.ask(CHAT, message, message)
    reached = any(call.message == message for mock in scene.mocks for call in mock.calls())
    return not answer.is_success and not reached

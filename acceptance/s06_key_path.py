"""S6: malformed keys cost no query, unknown keys one; no answer shows which is which."""

from __future__ import annotations

import statistics
import time

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import Answer, request
from tests.harness.rig import CREDIT, Server

MALFORMED = 1_000_000
UNKNOWN = 1_000
INJECTIONS = 200
PAIRS, FEW_PAIRS = 2_000, 500
WITHIN_SECONDS = 0.001
TEXTS = (
    "' OR '1'='1", '" OR ""="', "'; DROP TABLE channels_apikey; --", "%27%20OR%201=1", "%(digest)s",
    "{{7*7}}", "${7*7}", "<script>alert(1)</script>", "../../etc/passwd", "%s%s%s%n", "\\x00",
    "admin'--", "1 UNION SELECT key_digest FROM channels_apikey", "$(id)", "`id`", "|| 1=1", "*",
    "amgai_%", "null", "true", "[]", "{}", "0", "-1", "é", "amgai_' OR 1=1 --",
)  # fmt: skip


def check(run: Run) -> None:
    with run.rig() as rig:
        counts = {"malformed": run.count(MALFORMED, short=100_000), "unknown": UNKNOWN}
        found = rig.inside(
            "acceptance.secret_worker.try_keys", counts | {"seed": run.seed}, seconds=1200
        )
        run.report.figure("malformed", counts["malformed"])
        run.report.expect_equal("accepted", found["accepted"], 0)
        run.report.expect_equal("queries of malformed keys", found["asked"], 0)
        run.report.expect_equal("queries of unknown keys", found["asked_for_unknown"], UNKNOWN)
        run.report.expect("key_digest" in found["plan"], f"plan: {found['plan']}")
        run.report.expect("SCAN k" not in found["plan"], f"plan: {found['plan']}")
        server = rig.start_server(workers=1)
        expect_no_echo(run, server)
        expect_same_time(run, rig, server)


def expect_no_echo(run: Run, server: Server) -> None:
    """Expect that anything sent as a key is refused and not echoed."""
    for number in range(INJECTIONS):
        text = TEXTS[number % len(TEXTS)] + "x" * (number // len(TEXTS))
        name = ("X-API-Key", "Authorization")[number % 2]
        sent = text if name == "X-API-Key" else f"Bearer {text}"
        answer = ask(server, {name: sent.encode().decode("latin-1")})
        run.report.expect_equal(f"status of {text!r}", answer.status, 401)
        if len(text) > 3:
            run.report.expect(text.encode() not in answer.body, f"{text!r} is said again")


def expect_same_time(run: Run, rig: Rig, server: Server) -> None:
    """Expect that a revoked key, which the database has, is refused as fast as an unknown one."""
    known = rig.create_channel(microcredits=CREDIT)
    rig.inside("acceptance.secret_worker.shut", {"deed": "revoke", "channel_id": known.channel_id})
    strange = rig.inside("acceptance.secret_worker.new_keys", PAIRS if run.is_long else FEW_PAIRS)
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    for key in strange:
        pair = [("known", known.api_key), ("unknown", key)]
        # Side effects of one request on the next must fall on both alike.
        run.random.shuffle(pair)
        for name, one in pair:
            began = time.perf_counter()
            answer = ask(server, {"X-API-Key": one})
            times[name].append(time.perf_counter() - began)
            run.report.expect(answer.status == 401, f"{name}: {answer.status}")
    known_ms, unknown_ms = (statistics.median(times[name]) * 1000 for name in times)
    run.report.figure("known_ms", known_ms)
    run.report.figure("unknown_ms", unknown_ms)
    apart = abs(known_ms - unknown_ms)
    run.report.expect(apart < WITHIN_SECONDS * 1000, f"medians are {apart:.2f} ms apart")


def ask(server: Server, headers: dict[str, str]) -> Answer:
    return request(server.port, "GET", "/api/key", headers=headers)

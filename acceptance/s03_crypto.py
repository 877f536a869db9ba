"""S3: no nonce repeats; a moved or changed ciphertext opens nothing; damage stays in its row."""

from __future__ import annotations

from acceptance.checks import Run
from tests.harness.clients import tally
from tests.harness.rig import CREDIT, Wanted

ENCRYPTIONS = 1_000_000
CHANNELS = 20


def check(run: Run) -> None:
    with run.rig() as rig:
        encryptions = run.count(ENCRYPTIONS, short=200_000)
        run.report.figure("encryptions", encryptions)
        run.report.expect_equal(
            "equal nonces", rig.inside("acceptance.secret_worker.equal_nonces", encryptions), 0
        )
        tampered = rig.inside("acceptance.secret_worker.tamper", run.seed)
        run.report.figure("tampered", tampered["tries"])
        run.report.expect_equal("tampered and opened", tampered["opened"], 0)
        run.report.expect_equal("rows tampered with", tampered["rows"], 8)
        spoilt, *others = rig.create_channels(
            [Wanted(owner=f"{n}@example.com", microcredits=CREDIT) for n in range(CHANNELS)]
        )
        shown = rig.inside("acceptance.secret_worker.spoil", spoilt.channel_id)
        run.report.expect_equal("keys shown", shown, {"own": 0, "others": 2 * len(others)})
        server = rig.start_server(workers=1)
        answers = [server.client(one).chat("hello", "s") for one in (spoilt, *others)]
        run.report.expect_equal("chats beside the damage", tally(answers), {"200": CHANNELS})

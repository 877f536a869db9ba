"""The parts of the comparison with other gateways that are computed, not measured."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import chat, peer_servers, peers, tables
from bench.load import Plan, Requests
from bench.peer_servers import LITELLM, PORTKEY, Launch
from bench.record import Figure, Kept, Run

PROVIDER = "http://127.0.0.1:9/v1"


def turn(number: int, who: str, against: str, cpu_ms: float) -> dict[str, Any]:
    figures = dict.fromkeys(("rps", "p50_ms", "p99_ms", "rss_mb", "requests"), 100.0)
    database = 0.5 if who == peers.GATEWAY else 0.0
    return figures | {
        "round": number, "who": who, "against": against, "cpu_ms": cpu_ms,
        "database_cpu_ms": database, "others_cores": 0.01,
    }  # fmt: skip


ROUNDS = [
    turn(0, peers.GATEWAY, LITELLM, 1.0),
    turn(0, LITELLM, LITELLM, 10.0),
    turn(0, peers.GATEWAY, PORTKEY, 3.0),
    turn(0, PORTKEY, PORTKEY, 1.0),
    turn(1, peers.GATEWAY, LITELLM, 4.0),
    turn(1, LITELLM, LITELLM, 10.0),
    turn(1, peers.GATEWAY, PORTKEY, 3.0),
    turn(1, PORTKEY, PORTKEY, 1.5),
]


# --- ratios and figures -----------------------------------------------------------------------


def test_each_turn_is_compared_with_the_one_before_it_alone() -> None:
    assert peers.ratios(ROUNDS, LITELLM) == [0.1, 0.4]
    assert peers.ratios(ROUNDS, PORTKEY) == [3.0, 2.0]


def test_a_run_keeps_medians_and_tells_which_targets_it_misses() -> None:
    kept = Kept(
        Run("peers", "2026-11-23 04:00", "abc1234", "2 x CPU", "0.1", "Turns."),
        list(peers.figures_of(ROUNDS)),
    )
    assert kept.get(PORTKEY, "cpu_ms") == Figure(PORTKEY, "cpu_ms", 1.25, 1.0, 1.5)
    assert kept.get(PORTKEY, "database_cpu_ms") is None
    section = tables.section(kept)
    assert section.startswith("2026-11-23 04:00, abc1234, 2 x CPU, load average 0.1 before\nTurns.")
    assert "| Portkey | 100 | 1.25 (1 to 1.5) | 2.5 (2 to 3) |  |" in section
    assert "LiteLLM's, in turns: " not in section
    assert section.endswith("\n- MISSED: gateway CPU to Portkey's, in turns: 2.5, target 2.2")


# --- requests -------------------------------------------------------------------------------


def test_a_peer_is_asked_what_our_gateway_sends_on(tmp_path: Path) -> None:
    launch = peer_servers.portkey_launch(PROVIDER, tmp_path)
    request = Requests(peers.peer_plan(launch, 1.0)).make(0, 0).decode()
    head, _, body = request.partition("\r\n\r\n")
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"\r\nx-portkey-custom-host: {PROVIDER}\r\n" in head
    assert f"\r\nContent-Length: {len(body)}" in head
    told = json.loads(body)
    assert [one["role"] for one in told["messages"]] == ["system", "user"]
    assert len(told["messages"][0]["content"]) == chat.DIRECT_PROMPT_CHARACTERS
    assert "stream" not in told


def test_a_direct_call_needs_no_headers() -> None:
    plan = Plan(
        port=1, connections=1, seconds=1, path="/x", keys=[], message="", run="", direct_body="{}"
    )
    assert Requests(plan).make(0, 0) == (
        b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


# --- peers ----------------------------------------------------------------------------------


def launches(folder: Path) -> list[Launch]:
    return [
        peer_servers.litellm_launch(PROVIDER, folder),
        peer_servers.portkey_launch(PROVIDER, folder),
    ]


def test_peers_learn_nothing_of_our_settings(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_KEY", "ours")
    for launch in launches(tmp_path):
        assert "SECRET_KEY" not in launch.env
        assert launch.env["HOME"] == str(tmp_path)


def test_litellm_has_prices_a_provider_and_loopback(tmp_path: Path) -> None:
    launch = peer_servers.litellm_launch(PROVIDER, tmp_path)
    (model,) = json.loads((tmp_path / "litellm.yaml").read_text())["model_list"]
    assert model["litellm_params"]["api_base"] == PROVIDER
    assert model["litellm_params"]["input_cost_per_token"] > 0
    assert launch.command[launch.command.index("--host") + 1] == "127.0.0.1"
    assert launch.headers["Authorization"] == f"Bearer {launch.env['LITELLM_MASTER_KEY']}"


def test_a_preloaded_node_server_listens_on_loopback_alone() -> None:
    if not shutil.which("node"):
        pytest.skip("needs node")
    script = (
        "const one = require('node:http').createServer().listen(0, '0.0.0.0', () => {"
        "console.log(one.address().address); one.close(); });"
    )
    loopback = str(Path(peer_servers.__file__).parent / "loopback.cjs")
    done = subprocess.run(
        ["node", "--require", loopback, "-e", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "127.0.0.1"


def test_what_is_installed_is_not_installed_again(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(peer_servers, "BASE_DIR", tmp_path)
    folder, count = tmp_path / "peer", tmp_path / "count"
    add = [sys.executable, "-c", f"open({str(count)!r}, 'a').write('x')"]
    for what in ("peer 1", "peer 1", "peer 2"):
        peer_servers.install_once(folder, what, add)
    assert count.read_text() == "xx"


def test_a_failed_installation_says_why_and_is_tried_again(
    monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(peer_servers, "BASE_DIR", tmp_path)
    fail = [sys.executable, "-c", "print('no such release'); raise SystemExit(1)"]
    for _ in range(2):
        with pytest.raises(SystemExit, match="no such release\npeer 1 could not be installed"):
            peer_servers.install_once(tmp_path / "peer", "peer 1", fail)

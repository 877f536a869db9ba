"""S7: a provider's address leads only to the internet, and its key only to its own host."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import ENDPOINTS
from tests.harness.processes import HOST
from tests.harness.rig import CREDIT, ChannelKeys, Server, Wanted

# Each leads to this machine, or to a metadata service, once resolved.
LOOPBACK = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
    "0.0.0.0", "0", "localhost", "localhost.", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",  # noqa: S104
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "user@127.0.0.1", "%31%32%37.0.0.1",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "2852039166",
]  # fmt: skip
REDIRECTS = (301, 302, 303, 307, 308)
DEADLINE = 4


class Listener:
    """A server in this process that answers as told, and records its callers."""

    def __init__(self, status: int, location: str = "") -> None:
        self.keys: list[str | None] = []
        self.connections = 0
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                listener.connections += 1
                super().setup()

            def do_POST(self) -> None:
                listener.keys.append(self.headers.get("Authorization"))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815  # a redirected POST may arrive as GET

            def log_message(self, *arguments: Any) -> None:
                """Log nothing, because the check reports what was wrong."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://{HOST}:{self.port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def listeners(*told: tuple[int, str]) -> Iterator[list[Listener]]:
    with ExitStack() as stack:
        made = [Listener(*one) for one in told]
        for one in made:
            stack.callback(one.close)
        yield made


def check(run: Run) -> None:
    settings = {"PROVIDER_BASE_URL": "", "PROVIDER_DEADLINE": str(DEADLINE)}
    with run.rig(settings) as rig:
        server = rig.start_server(workers=2)
        check_private_addresses(run, rig, server)
        allowed = {"PROVIDER_ALLOW_PRIVATE_ADDRESSES": "true"}
        server.restart(allowed)
        rig.env |= allowed
        check_redirects(run, rig, server)
        check_keys(run, rig, server)


def serve_by(rig: Rig, urls: list[list[str]], name: str, key: str = "") -> list[ChannelKeys]:
    """Create a channel for each list of addresses, which serve its model in this order."""
    wanted = [
        Wanted(owner=f"{name}@example.com", microcredits=CREDIT, model_id=f"{name}-{number}")
        for number in range(len(urls))
    ]
    made = rig.create_channels(wanted)
    routes = [
        {
            "name": f"{channel.model_id}-{position}",
            "base_url": url,
            "model_id": channel.model_id,
            "key": key and f"{key}-{position}",
        }
        for channel, addresses in zip(made, urls, strict=True)
        for position, url in enumerate(addresses)
    ]
    rig.inside("tests.harness.channels.routes", routes)
    return made


def ask(run: Run, server: Server, channel: ChannelKeys, what: str) -> None:
    """Ask at both endpoints, plain and streamed. Each fails like any provider failure."""
    for endpoint in ENDPOINTS:
        for is_stream in (False, True):
            answer = server.client(channel).ask(endpoint, "Hello", what, stream=is_stream)
            run.report.expect_equal(f"{what} {endpoint}", answer.code, "provider_error")


def check_private_addresses(run: Run, rig: Rig, server: Server) -> None:
    """Without permission, no spelling of this machine and no metadata service is connected to."""
    with listeners((500, "")) as (listener,):
        hosts = [f"{host}:{listener.port}" for host in LOOPBACK] + METADATA
        urls = [[f"http://{host}/v1"] for host in hosts]
        for host, channel in zip(hosts, serve_by(rig, urls, "private"), strict=True):
            ask(run, server, channel, host)
        run.report.figure("addresses", len(hosts))
        run.report.expect_equal("connections to private addresses", listener.connections, 0)
        lines = rig.logs.joinpath("server-0.log").read_text().splitlines()
        told = [json.loads(line) for line in lines if '"reason":"private_address"' in line]
        refused = {one["provider"] for one in told}
        run.report.expect_equal("routes refused as private", len(refused), len(hosts))


def check_redirects(run: Run, rig: Rig, server: Server) -> None:
    """With permission, this machine is reached, but no redirect from it is followed."""
    with listeners((500, "")) as (target,):
        told = [(status, f"{target.url}/chat/completions") for status in REDIRECTS]
        with listeners(*told) as sources:
            channels = serve_by(rig, [[one.url] for one in sources], "redirect")
            for status, channel in zip(REDIRECTS, channels, strict=True):
                ask(run, server, channel, f"redirect {status}")
            reached = sum(source.connections > 0 for source in sources)
            run.report.expect_equal("redirecting servers reached", reached, len(sources))
        run.report.expect_equal("connections after a redirect", target.connections, 0)


def check_keys(run: Run, rig: Rig, server: Server) -> None:
    """Expect that each of two routes gets its own provider's key and no other."""
    with listeners((500, ""), (500, "")) as (first, second):
        (channel,) = serve_by(rig, [[first.url, second.url]], "keys", key="provider-key")
        ask(run, server, channel, "keys")
        run.report.expect_equal("keys at the first", set(first.keys), {"Bearer provider-key-0"})
        run.report.expect_equal("keys at the second", set(second.keys), {"Bearer provider-key-1"})

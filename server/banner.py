"""What the launcher prints once the server answers."""

from __future__ import annotations

import contextlib
import http.client
import time
from typing import Any

from server.config import Config, in_url


def announce_when_up(config: Config, report: dict[str, Any]) -> None:
    status = wait_for_answer(config)
    if status is None:
        print(f"No answer from {config.url}/healthz yet.", flush=True)
        return
    text = first_banner(config, report) if config.first_run else short_banner(config)
    if status != 200:
        text += f"\nBut /healthz answered {status}; is {in_url(config.local)} in ALLOWED_HOSTS?"
    print(text, flush=True)


def wait_for_answer(config: Config) -> int | None:
    for _ in range(600):
        with contextlib.suppress(OSError, http.client.HTTPException):
            host = config.local.strip("[]")
            connection = http.client.HTTPConnection(host, config.port, timeout=5)
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status
            finally:
                connection.close()
        time.sleep(0.05)
    return None


def short_banner(config: Config) -> str:
    return (
        f"Serving on http://{in_url(config.host)}:{config.port} with {config.workers} "
        f"worker{'s' * (config.workers > 1)} of {config.threads} threads."
    )


def first_banner(config: Config, report: dict[str, Any]) -> str:
    target = "make run" if config.port == 8000 else f"PORT={config.port} make run"
    lines = ["", f"  The gateway is running.  Dashboard:  {config.url}/"]
    if report.get("email"):
        lines.append(f"  Log in with              {report['email']}")
    if report.get("password"):
        lines.append(f"  and the password         {report['password']}  (shown only once)")
    elif report.get("email"):
        lines.append(f"  Reset the password       manage.py changepassword {report['email']}")
    if report.get("api_key"):
        lines += ["", "  Try it:", "", curl_line(config, report["api_key"])]
    lines += [
        "",
        f"  A real provider:  PROVIDER_BASE_URL=... PROVIDER_API_KEY=... {target}",
        "                    (or set them in .env; without one, answers come from a built-in demo)",
        "  To stop:          Ctrl+C",
        "",
    ]
    return "\n".join(lines)


def curl_line(config: Config, api_key: str) -> str:
    return (
        f"curl -X POST '{config.url}/api/chat' -H 'X-API-Key: {api_key}' "
        "-H 'Content-Type: application/json' "
        """-d '{"message":"Hello!","session_id":"visitor-1"}'"""
    )

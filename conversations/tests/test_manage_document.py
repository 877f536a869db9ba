"""The script of docs/management-api.md runs unchanged, and again, against a server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from billing import throttling
from channels import account_keys
from channels.models import ApiKey, Channel
from channels.tests.factories import Site
from conversations.api.manage import base, keys, paging
from conversations.api.manage.urls import ROUTES
from tests.support.clients import ApiClient
from tests.support.manage import manager_of

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = (Path(settings.BASE_DIR) / "docs" / "management-api.md").read_text()


def run_script(url: str, key: str, tmp_path: Path) -> dict[str, Any]:
    (script,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    path = tmp_path / "shops.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path)],
        env=os.environ | {"GATEWAY_URL": url, "ACCOUNT_KEY": key},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_the_script_sets_up_fifty_channels_once_and_takes_one_down(
    site: Site, live_server: Any, tmp_path: Path
) -> None:
    key = manager_of(site).key
    first = run_script(live_server.url, key, tmp_path)
    assert len(first["keys"]) == 50
    assert len(first["working"]) == 50  # with the site's own channel, which has no external id
    assert "shop-7" not in first["working"]
    second = run_script(live_server.url, key, tmp_path)
    assert second["working"] == first["working"]
    # The key of the channel that was taken down is not shown again.
    assert second["keys"] == first["keys"] | {"shop-7": None}
    assert Channel.objects.count() == 51
    assert ApiKey.objects.count() == 52
    assert ApiClient(first["keys"]["shop-50"]).get("/api/key").status_code == 200


def test_the_page_names_every_request_and_the_limits() -> None:
    words = {word for route in ROUTES for word in re.sub(r"{\w+}", "", route).split("/") if word}
    assert {word for word in words if word not in PAGE} == set()
    for number in (
        f"{throttling.MANAGE_REQUESTS_PER_MINUTE} requests a minute",
        f"at most {account_keys.MOST_KEYS} working",
        f"1 to {paging.MOST_ROWS}",
        f"0 to {keys.MOST_OVERLAP_SECONDS:,}",
        f"{base.MAX_BODY_BYTES // 1024} KiB",
    ):
        assert number in PAGE

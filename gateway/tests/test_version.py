"""The version is set only in `gateway/__init__.py`, and everything else matches it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

import gateway

ROOT: Path = settings.BASE_DIR


def test_the_newest_heading_of_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## (\S+) \S (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    version, date = headings[0]
    assert version == gateway.__version__
    assert re.fullmatch(r"unreleased|20\d\d-\d\d-\d\d", date)


def test_the_probe_and_the_schema_give_this_version() -> None:
    assert Client().get("/healthz").json()["version"] == gateway.__version__
    assert Client().get("/api/schema").json()["info"]["version"] == gateway.__version__


@pytest.mark.django_db
def test_readiness_and_the_staff_page_give_this_version(admin_client: Client) -> None:
    assert Client().get("/readyz").json()["version"] == gateway.__version__
    page = admin_client.get("/admin/health/").content.decode()
    assert f"<dt>AI gateway</dt><dd>{gateway.__version__}</dd>" in page


def test_the_release_page_names_the_one_place() -> None:
    page = (ROOT / "docs/how-to/release.md").read_text()
    assert "`__version__` in `gateway/__init__.py`" in page
    assert "settings.py" not in page

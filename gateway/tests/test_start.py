"""What a command loads before it begins. bench/start.py measures how long that takes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.conf import settings
from django.contrib import admin
from django.core.checks import CheckMessage

import gateway.urls  # noqa: F401  # registers what the staff admin shows
from channels.models import User
from gateway import checks

# Only pages or the worker load these. Together they are most of the imports.
DEAR = ("gateway.urls", "unfold.admin", "rest_framework.views", "celery", "redis", "fido2.server")


def test_a_command_that_only_reads_loads_no_page() -> None:
    command = "channels.management.commands.listmodels"
    lines = [
        "import django, sys",
        "django.setup()",
        f"import {command}",
        "from django.core.checks import run_checks",
        f"run_checks(tags={command}.Command.requires_system_checks)",
        f"print([name for name in {DEAR} if name in sys.modules])",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_check_of_the_admin_looks_at_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    page = admin.site._registry[User]
    monkeypatch.setattr(page, "list_display", ("no_such_field",))
    found: list[CheckMessage] = checks.check_admin_pages()
    assert [message.id for message in found] == ["admin.E108"]

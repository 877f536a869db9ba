"""A real browser against a real server: Debian's Chromium, driven by Playwright.

Marked `browser` and excluded from the plain test run. `make browser` runs these tests and saves
their screenshots under var/screenshots/.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from dashboard.tests.browser.visitors import NewReader, NewVisitor, Watched


@pytest.fixture(scope="session", autouse=True)
def _sync_orm_beside_playwright() -> Iterator[None]:
    """Allow the ORM: Playwright's loop runs in the test's thread, so Django suspects async code."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    yield
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(autouse=True)
def _own_attempts(forget_attempts: Callable[[], None]) -> None:
    """Count each test's log-ins apart: all tests have one address, whose log-ins are limited."""


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("Chromium is missing. On Debian or Ubuntu: apt install chromium")
    return {"executable_path": path, "args": ["--no-sandbox"]}


@pytest.fixture
def visitor(browser: Browser, live_server: Any) -> Iterator[NewVisitor]:
    """Return a function that opens a new browser with a width, a colour scheme, a log-in, and a
    touch screen.

    At the end of the test all of them must be clean: no failed script, nothing blocked by the
    content security policy, nothing requested from another host.
    """
    contexts, everybody = [], []

    def visit(
        *, width: int = 1440, look: Any = "light", email: str = "", has_touch: bool = False
    ) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=look,
            has_touch=has_touch,
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        watched = Watched(context.new_page(), live_server.url)
        everybody.append(watched)
        if email:
            watched.log_in(email)
        return watched

    yield visit
    for context in contexts:
        context.close()
    for watched in everybody:
        watched.assert_clean()


@pytest.fixture
def reader(browser: Browser, live_server: Any) -> Iterator[NewReader]:
    """Return a function that opens a new browser, with or without scripts, and may log in."""
    contexts = []

    def read(email: str = "", *, has_scripts: bool, width: int = 1440) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, java_script_enabled=has_scripts
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        watched = Watched(context.new_page(), live_server.url)
        if email:
            watched.log_in(email)
        return watched

    yield read
    for context in contexts:
        context.close()

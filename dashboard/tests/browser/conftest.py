"""A real browser against a real server: Debian's Chromium, driven by Playwright.

Marked `browser` and excluded from the plain test run. `make browser` runs these tests and saves
their screenshots under var/screenshots/.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

SHOTS = Path(settings.BASE_DIR) / "var" / "screenshots"
LOOKS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
PASSWORD = "correct-horse-battery-staple"


@pytest.fixture(scope="session", autouse=True)
def _sync_orm_beside_playwright() -> Iterator[None]:
    """Allow the ORM: Playwright's loop runs in the test's thread, so Django suspects async code."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    yield
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("Chromium is missing. On Debian or Ubuntu: apt install chromium")
    return {"executable_path": path, "args": ["--no-sandbox"]}


class Watched:
    """A page that records its errors and requests to other hosts, including those of its pop-ups.

    Chromium reports what the content security policy blocks to the console, so that counts as an
    error too.
    """

    def __init__(self, page: Page, base_url: str) -> None:
        self.page = page
        self.base_url = base_url
        self.errors: list[str] = []
        self.foreign: list[str] = []
        context = page.context
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("console", self._hear)
        context.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        # Alpine warns of an expression that it cannot parse.
        if message.type == "error" or "Alpine" in message.text:
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self.base_url, "data:", "blob:", "about:")):
            self.foreign.append(request.url)

    def expect_error(self, pattern: str) -> None:
        """Forget the errors that a test caused on purpose. There must be at least one."""
        others = [error for error in self.errors if not re.search(pattern, error)]
        assert len(others) < len(self.errors), f"no error like {pattern!r} in {self.errors}"
        self.errors = others

    def open(self, path: str) -> Page:
        self.page.goto(self.base_url + path)
        return self.page

    def log_in(self, email: str, password: str = PASSWORD) -> None:
        self.open("/accounts/login/")
        self.page.fill("input[name=login]", email)
        self.page.fill("input[name=password]", password)
        self.page.locator("main form").get_by_role("button").first.click()
        self.page.wait_for_url(lambda url: "/accounts/login" not in url)

    def assert_clean(self) -> None:
        """Assert that no script failed, and that nothing was requested from another host."""
        assert not self.errors, self.errors
        assert not self.foreign, self.foreign


NewVisitor = Callable[..., Watched]


@pytest.fixture
def visitor(browser: Browser, live_server: Any) -> Iterator[NewVisitor]:
    """Return a function that opens a new browser with a width, a colour scheme, and a log-in.

    At the end of the test all of them must be clean: no failed script, nothing blocked by the
    content security policy, nothing requested from another host.
    """
    contexts, everybody = [], []

    def visit(*, width: int = 1440, look: Any = "light", email: str = "") -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=look,
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


def shoot(watched: Watched, name: str, *, width: int, look: str) -> None:
    """Save a screenshot. Asserts that nothing overflows sideways."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    watched.page.screenshot(path=SHOTS / f"{name}-{width}-{look}.png", full_page=True)
    sideways = watched.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert sideways <= 0, f"{name} at {width} px scrolls sideways by {sideways} px"


def serious_findings(page: Page) -> list[str]:
    """Return axe's serious and critical findings, each with its location."""
    return [
        f"{violation['id']}: {[node['target'] for node in violation['nodes']][:3]}"
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]

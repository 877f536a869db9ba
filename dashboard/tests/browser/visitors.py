"""Pages of a real browser, and what tests ask of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import ConsoleMessage, Page, Request

SHOTS = Path(settings.BASE_DIR) / "var" / "screenshots"
LOOKS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
PASSWORD = "correct-horse-battery-staple"


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
NewReader = Callable[..., Watched]


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


# Text that is wider than its control, and figures that go on in the next line.
_MISFITS = r"""() => {
  const found = [];
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (over > 0) found.push(`scrolls sideways by ${over} px`);
  const isSeen = (one) => one.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const controls = "button, summary, .gw-btn, .gw-badge, .gw-tab, #result_list td";
  for (const one of document.querySelectorAll(controls)) {
    if (one.clientWidth > 2 && one.scrollWidth > one.clientWidth + 1 && isSeen(one)) {
      found.push(`“${one.textContent.trim()}” is cut off`);
    }
  }
  for (const one of document.querySelectorAll(".gw-stat, .gw-figures dd, .gw-right")) {
    const texts = document.createTreeWalker(one, NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode());) {
      for (const figure of text.data.matchAll(/\d[\d.,]*( (k|M|B|%|ms|s)\b)?/g)) {
        const range = document.createRange();
        range.setStart(text, figure.index);
        range.setEnd(text, figure.index + figure[0].length);
        const lines = new Set([...range.getClientRects()].map((line) => Math.round(line.top)));
        if (lines.size > 1) found.push(`${figure[0]} breaks`);
      }
    }
  }
  return found;
}"""


def misfits(page: Page) -> list[str]:
    """Return what does not fit: sideways scroll, controls whose text is cut off, broken figures."""
    found: list[str] = page.evaluate(_MISFITS)
    return found

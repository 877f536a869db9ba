"""The README's pictures: three pages of a shop, light and dark, always on the same afternoon.

Marked `pictures` and excluded from every other run. `make screenshots` writes them to docs/images/.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django.core.management import call_command
from django.urls import reverse
from PIL import Image
from playwright.sync_api import Page, expect

from channels import api_keys, audit
from channels.audit import Actor
from channels.models import Account, Channel, Membership, User
from channels.providers.base import ChatRequest, Completion, OnDelta, Patience
from dashboard.console import onboarding
from dashboard.tests.browser.visitors import PASSWORD, NewVisitor
from gateway.demo import tenants
from gateway.provisioning import FIRST_EMAIL
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [pytest.mark.pictures, pytest.mark.django_db(transaction=True)]

IMAGES = Path(settings.BASE_DIR) / "docs" / "images"
MOST_BYTES = 200_000
# A Thursday, so that the week's chart is full and today is well under way.
AFTERNOON = "2026-11-26T15:40:00Z"
TALK = [
    (
        "Hi! The touring bike I ordered is a size too small. Can I swap it?",
        "Of course! You can exchange it free of charge within 30 days:\n\n"
        "1. Open “My orders” and choose the bike.\n"
        "2. Select “Exchange” and the size you need.\n"
        "3. Pick a day, and we collect the old one when we bring the new one.",
    ),
    (
        "Great. Is the 56 cm frame in stock in green?",
        "Yes, in green and in grey. If you choose it today, we deliver it on Tuesday.",
    ),
]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Return the account of a small chain of shops that had a good month."""
    monkeypatch.setattr(tenants, "OWNER_CHANNELS_SHARE", 1.0)
    with time_machine.travel(AFTERNOON):
        owner = User.objects.create_user(FIRST_EMAIL, PASSWORD)
        account = Account.objects.create(name="Harbour Street Shops")
        Membership.objects.create(account=account, user=owner, role=Membership.Role.OWNER)
        call_command("demodata", "--channels", "6", "--messages", "9000", "--seed", "3", "--json")
        for channel in Channel.objects.all():
            api_keys.issue_api_key(channel=channel, is_test=False)
        audit.record(onboarding.DISMISSED, actor=Actor("Ann"), account_id=account.id)
        yield account


@pytest.fixture
def model(provider: FakeProvider, settings: Any, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """Return a connected provider that takes as long as a real one."""
    settings.PROVIDER_BASE_URL = "https://models.example/v1"
    provider.provider_name = "openrouter"
    at_once = provider.stream

    def stream(request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        def slowly(piece: Any) -> None:
            time.sleep(0.03)
            on_delta(piece)

        time.sleep(0.5)
        return at_once(request, patience=patience, on_delta=slowly)

    monkeypatch.setattr(provider, "stream", stream)
    return provider


@pytest.mark.parametrize("look", ["light", "dark"])
def test_pictures_of_the_readme(
    look: str, account: Account, visitor: NewVisitor, model: FakeProvider
) -> None:
    watched = visitor(width=1280, look=look, email=FIRST_EMAIL)
    page = watched.open(reverse("console:index"))
    keep(page, f"overview-{look}", height=752)
    watched.open(reverse("console:usage", args=[account.id]) + "?range=30d")
    keep(page, f"usage-{look}", height=896)
    channel = Channel.objects.filter(account=account).order_by("name")[0]
    watched.open(reverse("console:playground", args=[channel.id]))
    talk(page, model)
    keep(page, f"playground-{look}", height=924)


def talk(page: Page, model: FakeProvider) -> None:
    """Let a visitor ask questions that the channel's model answers."""
    model.script = [reply(answer, 164 + 90 * turn, 58) for turn, (_, answer) in enumerate(TALK)]
    page.get_by_role("radio", name="Paid").check()
    for turn, (question, _) in enumerate(TALK, start=1):
        page.get_by_label("Message", exact=True).fill(question)
        page.locator("[data-send]").click()
        expect(page.locator(".gw-bubble-meta")).to_have_count(turn)


def keep(page: Page, name: str, *, height: int) -> None:
    """Save what a window of that height shows. 256 colours are enough for these pages."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.wait_for_load_state("networkidle")
    page.evaluate("document.activeElement.blur()")
    taken: Any = Image.open(BytesIO(page.screenshot(animations="disabled", caret="hide")))
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.png"
    taken.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES, name

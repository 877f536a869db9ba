"""The provider wizard in a browser: the key stays in its field until the test was seen."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from channels import provider_setup
from channels.models import Provider
from channels.provider_setup import Trial
from channels.sealing import PROVIDER_KEYS
from dashboard.tests.browser.test_journeys import person
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, serious_findings, shoot

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

KEY = "sk-typed-once"


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_a_key_is_typed_once_tested_and_saved(
    width: int, look: str, visitor: NewVisitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    person("boss@example.com", is_staff=True, is_superuser=True)
    asked: list[str] = []

    def try_out(*, provider: Provider, clear_key: str, provider_model: str) -> Trial:
        asked.append(clear_key)
        return Trial(["mistral-small", "mistral-large"])

    monkeypatch.setattr(provider_setup, "try_out", try_out)
    watched = visitor(width=width, look=look, email="boss@example.com")
    page: Any = watched.open("/admin/providers/set-up/")
    page.get_by_role("link", name="Mistral").click()
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Test provider").click()
    expect(page.get_by_text("The provider lists 2 models")).to_be_visible()
    expect(page.get_by_label("API key")).to_have_value(KEY)
    assert KEY not in page.content()
    shoot(watched, "provider-wizard", width=width, look=look)
    assert not serious_findings(page)
    page.get_by_role("button", name="Save provider").click()
    expect(page.get_by_text("mistral is set up.")).to_be_visible()
    assert asked == [KEY]
    assert PROVIDER_KEYS.unseal(Provider.objects.get(name="mistral")) == KEY

"""The staff's page of margins and its prices in a browser, in four looks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from channels.models import CostPrice, CreditPrice
from conversations.models import Message
from dashboard.tests.browser.test_journeys import person, site_with_people
from dashboard.tests.browser.test_looks import look_at
from dashboard.tests.browser.visitors import LOOKS, NewVisitor

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_pages_of_margins(width: int, look: str, visitor: NewVisitor) -> None:
    site, now = site_with_people(), timezone.now()
    day = now.date() - timedelta(days=20)
    for provider, model, charged in (
        ("groq", "gemma2-9b-it", 2 * 10**9),
        ("groq", "llama-3.3-70b-versatile", 1),
        ("openrouter", "a-model-that-has-a-long-name-and-is-gone-since-last-week", 10**6),
        ("demo", "gemma2-9b-it", 0),
    ):
        Message.objects.create(
            channel=site.channel, is_test=False, position=0, role="assistant", created_at=now,
            request_model=model, provider_name=provider, input_tokens=123_456_789,
            output_tokens=9_876_543, charged_microcredits=charged,
        )  # fmt: skip
    for model in ("gemma2-9b-it", "llama-3.3-70b-versatile"):
        CostPrice.objects.create(
            provider_name="groq", model_id=model, starts_on=day, input_price_micros=590_000,
            output_price_micros=790_000, cached_input_price_micros=100_000,
        )  # fmt: skip
    CreditPrice.objects.create(starts_on=day, price_micros=250_000)
    person("boss@example.com", is_staff=True, is_superuser=True)
    price = CostPrice.objects.all()[0]
    pages = {
        "margins": "/admin/margins/",
        "margins-own": "/admin/margins/?range=own&first=2026-06-10&last=2026-06-01",
        "cost-prices": "/admin/channels/costprice/",
        "cost-price-add": "/admin/channels/costprice/add/?provider_name=groq",
        "cost-price": f"/admin/channels/costprice/{price.pk}/change/",
        "credit-price-add": "/admin/channels/creditprice/add/",
        "mails-of-staff": "/accounts/mails/",
    }
    look_at(visitor(width=width, look=look, email="boss@example.com"), pages, width, look)

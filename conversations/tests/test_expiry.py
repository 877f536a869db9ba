"""The clean-up of sessions, and that nothing depends on it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from channels.tests.factories import Site
from conversations import tasks
from conversations.archive import retention
from conversations.models import ChatSession, Message
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


def test_closes_stale_sessions_only(site: Site, provider: FakeProvider, clock: Any) -> None:
    api = ApiClient(site.api_key)
    api.chat(session_id="old")
    clock.shift(3600)
    api.chat(session_id="new")
    clock.shift(23 * 3600)
    assert retention.expire_stale_sessions(now=timezone.now()) == (1, 0)
    assert list(
        ChatSession.objects.filter(closed_at=None).values_list("session_id", flat=True)
    ) == ["new"]
    assert len(api.history("new")) == 2


def test_erases_text_past_retention_and_keeps_the_books(
    site: Site, provider: FakeProvider, clock: Any
) -> None:
    api = ApiClient(site.api_key)
    api.chat("old words", metadata={"title": "private"})
    clock.shift(30 * 24 * 3600 - 1)
    assert tasks.expire_sessions() == (1, 0)
    clock.shift(1)
    api.chat("new words")
    assert tasks.expire_sessions() == (0, 2)
    assert tasks.expire_sessions() == (0, 0)
    kept = Message.objects.exclude(content="").values_list("content", flat=True)
    assert sorted(kept) == ["Reply 2", "new words"]
    assert not Message.objects.exclude(page_title="").exists()
    assert Message.objects.filter(charged_microcredits=1_000_000).count() == 2


def test_a_session_in_the_middle_of_a_turn_is_left_alone(
    site: Site, provider: FakeProvider, clock: Any
) -> None:
    api = ApiClient(site.api_key)
    api.chat()
    clock.shift(24 * 3600)
    ChatSession.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=9))
    assert retention.expire_stale_sessions(now=timezone.now()) == (0, 0)


@pytest.mark.parametrize(("seconds", "is_new"), [(24 * 3600 - 0.001, False), (24 * 3600, True)])
def test_a_message_after_a_day_begins_anew_and_ends_the_old_one_when_its_time_was_up(
    site: Site, provider: FakeProvider, clock: Any, seconds: float, is_new: bool
) -> None:
    api = ApiClient(site.api_key)
    api.chat("old words")
    ends_at = ChatSession.objects.get().last_message_at + timedelta(hours=24)
    clock.shift(seconds)
    api.chat("new words")
    closed_at = list(ChatSession.objects.order_by("id").values_list("closed_at", flat=True))
    assert closed_at == ([ends_at, None] if is_new else [None])
    assert len(api.history()) == (2 if is_new else 4)

"""Fixtures for all tests of conversations."""

import pytest

from conversations.chat import streaming


@pytest.fixture(autouse=True)
def _no_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a busy machine from causing keep-alive comments. Tests about comments turn them on."""
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 600.0)

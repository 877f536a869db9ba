"""What all tests of conversations share."""

import pytest

from conversations import streaming


@pytest.fixture(autouse=True)
def _no_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send no comment because the machine is busy; a test about comments asks for them."""
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 600.0)

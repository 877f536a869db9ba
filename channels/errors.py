"""Errors of channels and providers that are not an answer to a caller by themselves."""

from __future__ import annotations


class ProviderError(Exception):
    """One route failed. `permanent` says that the next call would fail alike (key, model gone)."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        self.reason = reason
        self.permanent = permanent
        super().__init__(reason)


class UnknownModel(Exception):
    """No enabled model has this id; the message lists those there are."""


class UnknownChannel(Exception):
    """No channel has this id."""


class UnknownAccount(Exception):
    """Nobody with this e-mail address owns an account."""

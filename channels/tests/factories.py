"""Builders for tests: plain functions with defaults that suit most tests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from billing import grants
from channels import accounts, api_keys, channel_changes, fixed_answers, key_uses
from channels.audit import COMMAND_LINE
from channels.callers import Caller, find_caller
from channels.models import Channel, FixedAnswer, LanguageModel
from common.money import MICROCREDITS_PER_CREDIT


@dataclass
class Site:
    """A channel with its keys, as a site's backend has them."""

    channel: Channel
    api_key: str
    test_key: str

    @property
    def account_id(self) -> int:
        return self.channel.account_id

    def caller(self, *, is_test: bool = False) -> Caller:
        caller = find_caller(self.test_key if is_test else self.api_key)
        assert caller is not None
        return caller


def make_site(*, owner: str = "owner@example.com", credit_amount: int = 100, **fields: Any) -> Site:
    """Return a channel with a live key, a test key and some credits."""
    account = accounts.ensure_account(owner_email=owner)
    channel = channel_changes.create_channel(account=account, **{"name": "Shop"} | fields)
    live = api_keys.issue_api_key(channel=channel, is_test=False)
    test = api_keys.issue_api_key(channel=channel, is_test=True)
    if credit_amount:
        grants.grant_credits(
            account=account,
            amount_microcredits=credit_amount * MICROCREDITS_PER_CREDIT,
            reason="for a test",
        )
    return Site(channel, live.clear, test.clear)


def save_reply(
    channel: Channel, question: str, answer: str = "From 9 to 5.", *wordings: str
) -> FixedAnswer:
    """Return a new saved reply, with other wordings of its question."""
    saved, _ = fixed_answers.add_fixed_answer(
        channel=channel, question=question, answer=answer, wordings=wordings, actor=COMMAND_LINE
    )
    return saved


def set_prices(**prices: int) -> None:
    """Set these prices for every model (field name -> micro-credits)."""
    LanguageModel.objects.update(**prices)


def note_use(key_id: uuid.UUID, meta: Mapping[str, str]) -> None:
    """Note a request with this key, as authentication does."""
    headers = (meta.get(settings.TRUSTED_PROXY_META, ""), meta.get("HTTP_USER_AGENT", ""))
    key_uses.seen.append((key_id, time.time(), meta.get("REMOTE_ADDR", ""), *headers, True))

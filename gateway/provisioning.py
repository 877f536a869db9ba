"""Sets up channels from the command line: account, channel, keys, and credits, all or nothing."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import transaction

from billing import grants
from channels import accounts, api_keys, channel_changes
from channels.models import Account, ApiKey, Channel, User
from common.commands import credits_argument

FIRST_EMAIL = "owner@example.com"
FIRST_CREDITS = 1_000_000_000  # 1,000 credits
FIRST_PROMPT = "You are a friendly assistant on a website. Answer briefly and helpfully."


def add_channel_arguments(parser: CommandParser, *, is_new: bool) -> None:
    """Add the options that createchannel and setchannel share."""
    parser.add_argument("--owner", required=is_new, metavar="EMAIL")
    parser.add_argument("--name", required=is_new)
    parser.add_argument("--model", default="", metavar="ID")
    parser.add_argument("--credits", type=credits_argument, help="grant that many (more) credits")
    parser.add_argument("--requests-per-minute", type=int)
    parser.add_argument("--daily-quota", type=int)
    parser.add_argument("--system-prompt")


def given_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the channel fields given on the command line."""
    names = ("name", "requests_per_minute", "daily_quota", "system_prompt")
    return {name: options[name] for name in names if options[name] is not None}


@transaction.atomic
def create_channel(
    *, owner_email: str, model_id: str, credit_microcredits: int | None, **fields: Any
) -> tuple[Channel, str, str]:
    """Create a channel with a live and a test key. Returns it and both keys in clear text."""
    account = accounts.ensure_account(owner_email=owner_email)
    channel, (live, test) = channel_changes.create_channel_with_keys(
        account=account, model_id=model_id, **fields
    )
    grant(account, credit_microcredits)
    return channel, live.clear, test.clear


@transaction.atomic
def set_channel(
    *, channel_id: str, owner_email: str | None, credit_microcredits: int | None, **fields: Any
) -> Channel:
    """Change a channel and, if asked, grant credits to its account."""
    if owner_email:
        fields["account"] = accounts.get_account(owner_email=owner_email)
    channel = channel_changes.update_channel(channel_id=channel_id, **fields)
    grant(channel.account, credit_microcredits)
    return channel


def grant(account: Account, microcredits: int | None) -> None:
    """Grant credits from the command line, if any were asked for."""
    if microcredits:
        grants.grant_credits(
            account=account,
            amount_microcredits=microcredits,
            reason="Granted on the command line",
            actor="command line",
        )


@transaction.atomic
def first_run() -> dict[str, Any]:
    """Create the first account, once, and return how to use it.

    The first login may also open the staff admin, because on a fresh installation it is the
    operator. Its password is returned only the first time. Pages ask for a new password until it is
    changed.
    """
    is_new = not User.objects.exists()
    if is_new:
        User.objects.create_superuser(FIRST_EMAIL, settings.FIRST_LOGIN_PASSWORD or None)
        create_channel(
            owner_email=FIRST_EMAIL,
            model_id="",
            credit_microcredits=FIRST_CREDITS,
            name="My website",
            system_prompt=FIRST_PROMPT,
        )
    password = _first_password()
    User.objects.filter(email=FIRST_EMAIL).update(has_first_password=password is not None)
    keys = {
        key.mode: api_keys.reveal_api_key(key)
        for key in ApiKey.objects.filter(
            channel__account__members__email=FIRST_EMAIL, revoked_at=None, expires_at=None
        ).order_by("created_at")
    }
    return {
        "created": is_new,
        "email": FIRST_EMAIL,
        "password": password if is_new else None,
        "api_key": keys.get("live"),
        "test_key": keys.get("test"),
    }


def _first_password() -> str | None:
    """Return the first login's password if it is still the one that set-up chose."""
    user = User.objects.filter(email=FIRST_EMAIL).first()
    chosen: str = settings.FIRST_LOGIN_PASSWORD
    return chosen if user and chosen and user.check_password(chosen) else None

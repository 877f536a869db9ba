"""What S3 to S6 do inside the gateway's code, with its settings (tests/harness/inside.py)."""

from __future__ import annotations

import random
import string
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.db import connection, transaction
from django.http import HttpRequest
from django.test import RequestFactory
from rest_framework.request import Request

from billing import redemptions, throttling
from channels import accounts, api_keys, authentication, callers, catalogue, channel_changes, team
from channels.audit import COMMAND_LINE
from channels.authentication import ApiKeyAuthentication
from channels.models import Account, ApiKey, Channel, Membership, Provider, User
from channels.sealing import API_KEYS, INVITATIONS, PROVIDER_KEYS
from channels.secret_checks import PEPPER
from common import crypto
from common.errors import InvalidApiKey, MissingApiKey
from dashboard.login.store import SessionStore
from gateway import rotation

# --- S3 -------------------------------------------------------------------------------------------


def equal_nonces(count: int) -> int:
    """Encrypt `count` times. Returns how many nonces repeated."""
    seen = {crypto.encrypt("a secret", context="c")[1][: crypto.NONCE_BYTES] for _ in range(count)}
    return count - len(seen)


def tamper(seed: int) -> dict[str, int]:
    """Try each ciphertext with a flipped bit, in other rows, and in other columns."""
    tries = opened = 0
    draw = random.Random(seed)
    with transaction.atomic():
        rows = list(_sealed_rows())
        for column, row, sealed in rows:
            for place in draw.sample(range(len(sealed) * 8), 64):
                tries += 1
                opened += _opens(column, row, _flipped(sealed, place))
            for other_column, other, _ in rows:
                if (other_column, other.pk) != (column, row.pk):
                    tries += 1
                    opened += _opens(other_column, other, sealed, row.encryption_key_id)
        transaction.set_rollback(True)
    return {"tries": tries, "opened": opened, "rows": len(rows)}


def _sealed_rows() -> Iterator[tuple[Any, Any, bytes]]:
    """Create a few rows of every sealed column, and yield each with its ciphertext."""
    account = accounts.ensure_account(owner_email="tampered@example.com")
    channel, issued = channel_changes.create_channel_with_keys(account=account, name="Tampered")
    for one in issued:
        yield API_KEYS, one.record, bytes(one.record.key_ciphertext)
    for provider in Provider.objects.order_by("name")[:2]:
        catalogue.set_provider_key(provider=provider, clear=f"sk-{channel.id}")
        yield PROVIDER_KEYS, provider, bytes(provider.key_ciphertext or b"")
    for name in ("a", "b"):
        invited = team.invite(
            account=account,
            email=f"{name}@example.com",
            role=Membership.Role.VIEWER,
            actor=COMMAND_LINE,
        )
        yield INVITATIONS, invited.record, bytes(invited.record.secret_ciphertext or b"")
    for code in redemptions.make_codes(
        reference="tampered", count=2, amount_microcredits=1, actor=COMMAND_LINE
    ):
        yield redemptions.CODES, code, bytes(code.code_ciphertext or b"")


def _flipped(sealed: bytes, place: int) -> bytes:
    changed = bytearray(sealed)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def _opens(column: Any, row: Any, sealed: bytes, key_id: str = "") -> bool:
    try:
        crypto.decrypt(key_id or row.encryption_key_id, sealed, context=column.context(row.pk))
    except crypto.DecryptionError:
        return False
    return True


def spoil(channel_id: str) -> dict[str, int]:
    """Damage one channel's keys. Returns how many keys of all channels can still be shown."""
    ApiKey.objects.filter(channel_id=channel_id).update(key_ciphertext=b"x" * 80)
    shown = {"own": 0, "others": 0}
    for row in ApiKey.objects.all():
        try:
            api_keys.reveal_api_key(row)
            shown["own" if str(row.channel_id) == channel_id else "others"] += 1
        except crypto.DecryptionError:
            pass
    return shown


# --- S4 -------------------------------------------------------------------------------------------


def fill(wanted: dict[str, Any]) -> list[str]:
    """Add channels like a given one, each with a key. Returns the keys."""
    like = Channel.objects.get(id=wanted["like"])
    names = ("account", "model", "requests_per_minute", "daily_quota", "system_prompt")
    fields = {name: getattr(like, name) for name in names}
    channels = [Channel(name=f"Filler {n}", **fields) for n in range(wanted["count"])]
    clear = [authentication.generate_key(is_test=False) for _ in channels]
    rows = [
        ApiKey(
            id=uuid.uuid4(),
            channel=channel,
            mode="live",
            key_prefix=authentication.key_prefixes()[False],
            key_last_four=key[-4:],
        )
        for channel, key in zip(channels, clear, strict=True)
    ]
    with transaction.atomic():
        Channel.objects.bulk_create(channels, batch_size=500)
        API_KEYS.seal_all(list(zip(rows, clear, strict=True)))
        ApiKey.objects.bulk_create(rows, batch_size=500)
    return clear


def secrets_in_use(_: Any) -> dict[str, dict[str, int]]:
    """Return how many rows need each secret, by setting and id."""
    found: dict[str, dict[str, int]] = {}
    for (setting, name), count in rotation.count_left().items():
        found.setdefault(setting, {})[name] = count
    return found


def pepper_id(_: Any) -> str:
    """Return the id of the pepper used for new digests."""
    return rotation.newest(PEPPER)


def log_in(_: Any) -> str:
    """Return the cookie of a person who has just logged in."""
    request = HttpRequest()
    request.session = SessionStore()
    user = User.objects.order_by("id")[0]
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    request.session.save()
    return str(request.session.session_key)


# --- S5 -------------------------------------------------------------------------------------------


def shut(wanted: dict[str, Any]) -> float:
    """Revoke or rotate a key, or switch a channel or account off. Returns when that took effect.

    For a rotation, that is when the old key ends. As time.time() of this machine.
    """
    channel = Channel.objects.get(id=wanted["channel_id"])
    key = ApiKey.objects.get(channel=channel, mode="live")
    if wanted["deed"] == "rotate":
        overlap = timedelta(seconds=wanted["seconds"])
        api_keys.rotate_api_key(api_key=key, overlap=overlap, actor=COMMAND_LINE)
        key.refresh_from_db()
        ends_at = key.expires_at or key.revoked_at
        assert ends_at is not None
        return ends_at.timestamp()
    if wanted["deed"] == "revoke":
        api_keys.revoke_api_key(api_key=key)
    elif wanted["deed"] == "channel":
        channel_changes.update_channel(channel_id=str(channel.id), is_enabled=False)
    else:
        Account.objects.filter(id=channel.account_id).update(is_enabled=False)
    return time.time()


# --- S6 -------------------------------------------------------------------------------------------


def new_keys(count: int) -> list[str]:
    """Return well-formed keys that nobody has."""
    return [authentication.generate_key(is_test=False) for _ in range(count)]


def try_keys(wanted: dict[str, int]) -> dict[str, Any]:
    """Try malformed keys, and well-formed unknown ones. Returns which were accepted and queried."""
    statements: list[str] = []

    def count(execute: Any, sql: str, *more: Any) -> Any:
        statements.append(sql)
        return execute(sql, *more)

    class Door(ApiKeyAuthentication):
        def find_caller(self, request: Request, key: str) -> Any:
            return throttling.find_and_count(key=key, bucket="read", factor=1)[0]

    def is_accepted(key: str) -> bool:
        request = RequestFactory().get("/", headers={"X-API-Key": key})
        try:
            Door().authenticate(Request(request))
        except (InvalidApiKey, MissingApiKey):
            return False
        return True

    draw = random.Random(wanted["seed"])
    good = authentication.generate_key(is_test=False)
    with connection.execute_wrapper(count):
        accepted = sum(is_accepted(_misspelt(good, draw)) for _ in range(wanted["malformed"]))
        asked = len(statements)
        is_accepted(
            authentication.generate_key(is_test=False)
        )  # checks once whether the secrets match
        statements.clear()
        unknown = sum(
            is_accepted(authentication.generate_key(is_test=False))
            for _ in range(wanted["unknown"])
        )
    with connection.cursor() as cursor:
        explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
        cursor.execute(explain + callers.caller_step().sql, callers.params_of(good))
        plan = "\n".join(str(row) for row in cursor.fetchall())
    return {
        "accepted": accepted + unknown,
        "asked": asked,
        "asked_for_unknown": len(statements),
        "plan": plan,
    }


def _misspelt(key: str, draw: random.Random) -> str:
    """Return the key with one thing wrong: a letter, the length, the prefix, or all of it."""
    place, letter = draw.randrange(len(key)), draw.choice(string.printable.strip())
    wrong = draw.choice(
        (
            key[:place] + letter + key[place + 1 :],
            key[:place],
            key + letter,
            key.replace("amgai_", draw.choice(("amgai", "AMGAI_", "amgai_tes_", "sk-", ""))),
            "".join(draw.choices(string.printable.strip(), k=draw.randrange(1, 200))),
        )
    )
    return wrong if wrong != key else key[1:]

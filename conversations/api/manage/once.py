"""Idempotency-Key of /api/manage/: a POST that is sent again does nothing again.

The claim, and the answer's place in the transaction of the change, are those of a chat
(conversations/chat/idempotency.py). The stored answer holds no key in clear text. A replay that
shows one decrypts it, and the audit log says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from channels import api_keys
from channels.account_callers import AccountCaller, account_caller_of
from channels.api_keys import IssuedKey
from channels.models import ApiKey
from channels.usable_keys import usable_keys
from conversations.api.chat import read_idempotency_key
from conversations.chat import idempotency


@dataclass(frozen=True, slots=True)
class Made:
    """The answer to a POST. With `issued`, its `key` is that key's clear text."""

    body: dict[str, Any]
    status: int = 201
    issued: IssuedKey | None = None

    def stored(self) -> bytes:
        """Return what a replay needs: everything but the clear text."""
        key_id = str(self.issued.record.id) if self.issued else None
        return orjson.dumps({"status": self.status, "body": self.body, "key_id": key_id})

    def respond(self) -> Response:
        shown = {"key": self.issued.clear} if self.issued else {}
        return Response(self.body | shown, status=self.status)


def do_once(request: Request, raw: bytes, deed: Callable[[], Made]) -> Response:
    """Return the deed's answer, or with a known Idempotency-Key the one it had before.

    Raises RequestInProgress, IdempotencyKeyReused, and what the deed raises.
    """
    caller = account_caller_of(request)
    header = request._request.META.get("HTTP_IDEMPOTENCY_KEY")
    if not header:
        return deed().respond()
    key = read_idempotency_key(header, raw, path=request._request.path.rstrip("/"))
    claim = idempotency.claim_for_account(caller.account_id, key)
    if claim.replay is not None:
        return _replay(caller, orjson.loads(claim.replay))
    is_done = False
    try:
        with transaction.atomic():
            made = deed()
            idempotency.complete(claim, made.stored())
        is_done = True
    finally:
        if not is_done:
            idempotency.free(claim)
    return made.respond()


def _replay(caller: AccountCaller, stored: dict[str, Any]) -> Response:
    body = stored["body"]
    if stored["key_id"]:
        body["key"] = _show_again(caller, stored["key_id"])
    return Response(body, status=stored["status"], headers={"Idempotency-Replayed": "true"})


def _show_again(caller: AccountCaller, key_id: str) -> str | None:
    """Return the clear text of a key that still works, or None."""
    works = usable_keys(timezone.now()).filter(channel__account_id=caller.account_id)
    keys = ApiKey.objects.filter(id__in=works.filter(id=key_id).values("id"))
    key = keys.select_related("channel").first()
    return api_keys.show_api_key(api_key=key, actor=caller.actor) if key else None

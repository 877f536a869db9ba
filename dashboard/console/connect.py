"""The Connect page of a channel: working code for its backend, and a button to test a key."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any

import orjson
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import api_keys, callers, usable_keys
from channels.callers import Caller
from channels.models import ApiKey, Channel
from common import crypto
from common.api.errors import to_logged_error
from common.api.rendering import error_body
from common.errors import InvalidApiKey
from common.logs import request_id_var
from common.pages.requests import post_only
from conversations.chat import answer
from conversations.chat.calls import Answer
from dashboard.console.access import Member, Role, channel_page
from dashboard.console.asking import EXPECTED_ERRORS, admit
from dashboard.console.keys import get_key
from dashboard.console.pages import render_page
from dashboard.public_address import site_url
from dashboard.reference import facts, snippets

TEST_MESSAGE = "Hello! Please answer in one short sentence."


@channel_page()
def connect(request: HttpRequest, member: Member, channel: Channel) -> HttpResponse:
    """Show how to call this channel."""
    base_url = site_url(request)
    caller = callers.find_channel_caller(channel_id=channel.id, is_test=False)
    return render_page(
        request,
        member,
        "connect.html",
        title=_("Connect"),
        channel=channel,
        base_url=base_url,
        languages=snippets.list_languages(base_url=base_url, model=channel.model.model_id),
        keys=_newest_of_each_mode(channel),
        caller=caller,
        limits=facts.limits(),
        errors=facts.ERRORS,
        simulations=facts.SIMULATIONS,
        endpoints=facts.ENDPOINTS,
    )


def _newest_of_each_mode(channel: Channel) -> list[ApiKey]:
    """Return a working live key and test key. The live one first: it is what a site needs."""
    usable = usable_keys.usable_keys(timezone.now()).filter(channel=channel)
    of_each = [usable.filter(mode=mode).order_by("-created_at", "id")[:1] for mode in ApiKey.Mode]
    return [key for keys in of_each for key in keys]


# --- Test this key --------------------------------------------------------------------------------


@channel_page(needs=Role.EDITOR)
@post_only
def test_key(request: HttpRequest, member: Member, channel: Channel) -> JsonResponse:
    """Make a real, short call with a key of the channel, and show the result, errors included.

    The response is 200 whatever the call's own `status`, because the test itself worked.
    """
    try:
        key = get_key(channel, uuid.UUID(request.POST.get("key_id", "")))
    except ValueError:
        raise Http404 from None
    started = time.monotonic()
    result: dict[str, Any]
    fallback_replies: dict[str, str] = {}
    try:
        caller = _caller_with(key)
        fallback_replies = caller.fallback_replies
        result = _call(request, member, caller)
    except EXPECTED_ERRORS as error:
        api_error = to_logged_error(error)
        result = error_body(api_error, fallback_replies=fallback_replies)
        result["status"] = api_error.status
    result["latency_ms"] = round((time.monotonic() - started) * 1000)
    result["request_id"] = request_id_var.get()
    result["key"] = key.masked
    return JsonResponse(result)


# This is a view, although pytest takes its name for a test.
test_key.__test__ = False  # type: ignore[attr-defined]


def _caller_with(key: ApiKey) -> Caller:
    """Look up the key by its clear text, as a request does. Raises InvalidApiKey."""
    try:
        caller = callers.find_caller(api_keys.reveal_api_key(key))
    except crypto.DecryptionError:
        caller = None
    if caller is None:
        raise InvalidApiKey
    return caller


def _call(request: HttpRequest, member: Member, caller: Caller) -> dict[str, Any]:
    session_id = f"key-test-{member.user.pk}-{secrets.token_hex(4)}"
    asked = admit(request, caller, message=TEST_MESSAGE, session_id=session_id, is_stream=False)
    answered = answer.answer(caller=caller, asked=asked, request_id=request_id_var.get())
    assert isinstance(answered, Answer), "without an Idempotency-Key nothing is replayed"
    body: dict[str, Any] = orjson.loads(answered.body)
    provider_ms = round(answered.duration_seconds * 1000)
    return body | {
        "status": 200,
        "provider": answered.provider_name,
        "provider_ms": provider_ms,
    }


urlpatterns = [
    path("channels/<uuid:channel_id>/connect/", connect, name="connect"),
    path("channels/<uuid:channel_id>/connect/test-key/", test_key, name="test_key"),
]

"""/api/manage/channels/{id}/keys: create, rotate, and revoke a channel's keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_noop
from rest_framework.request import Request
from rest_framework.response import Response

from billing import spend_caps
from channels import api_keys
from channels.key_terms import LONGEST_NAME, NO_TERMS, KeyTerms
from channels.models import ApiKey
from common.api.base import read_object
from common.api.openapi import describe
from common.clock import rfc3339
from conversations.api.manage import schemas
from conversations.api.manage.base import ManageView, find_channel, find_key
from conversations.api.manage.fields import Fields
from conversations.api.manage.once import Made, do_once
from conversations.api.manage.paging import list_page
from conversations.api.manage.schemas import errors

MOST_OVERLAP_SECONDS = 7 * 24 * 3600
USUAL_OVERLAP_SECONDS = 24 * 3600


class KeysView(ManageView):
    """The keys of a channel."""

    @describe(
        operation_id="manage_list_keys",
        summary=gettext_noop("List a channel's keys, newest first, masked"),
        parameters=[schemas.CHANNEL_ID, schemas.LIMIT, schemas.CURSOR],
        responses={200: schemas.KeyPageSchema} | errors(400, 404),
    )
    def get(self, request: Request, channel_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        rows = ApiKey.objects.filter(channel=channel).defer("key_ciphertext", "key_digest")
        return list_page(request, rows, describe_key, by=("created_at", "id"), is_descending=True)

    @describe(
        operation_id="manage_create_key",
        summary=gettext_noop("Create a key for a channel; only this answer shows it"),
        parameters=[schemas.CHANNEL_ID, schemas.IDEMPOTENCY_KEY],
        request=schemas.NewKeySchema,
        responses={201: schemas.IssuedKeySchema} | errors(400, 404, 409, 411, 413, 415, 422),
    )
    def post(self, request: Request, channel_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        raw, data = read_object(request)
        fields = Fields(data)
        mode = fields.choice("mode", ApiKey.Mode.values, default=ApiKey.Mode.LIVE)
        terms = _read_terms(fields, NO_TERMS)
        fields.refuse_wrong()

        def create() -> Made:
            issued = api_keys.issue_api_key(
                channel=channel,
                is_test=mode == ApiKey.Mode.TEST,
                terms=terms,
                actor=caller.actor,
            )
            return Made(describe_key(issued.record), issued=issued)

        return do_once(request, raw, create)


class KeyView(ManageView):
    """One key of a channel."""

    @describe(
        operation_id="manage_get_key",
        summary=gettext_noop("Get a key, masked"),
        parameters=[schemas.CHANNEL_ID, schemas.KEY_ID],
        responses={200: schemas.ChannelKeySchema} | errors(404),
    )
    def get(self, request: Request, channel_id: str, key_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        return Response(describe_key(find_key(channel, key_id)))

    @describe(
        operation_id="manage_update_key",
        summary=gettext_noop("Change a key's name, end, and where and for what it works"),
        parameters=[schemas.CHANNEL_ID, schemas.KEY_ID],
        request=schemas.KeyChangesSchema,
        responses={200: schemas.ChannelKeySchema} | errors(400, 404, 411, 413, 415),
    )
    def patch(self, request: Request, channel_id: str, key_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        key = find_key(channel, key_id)
        _, data = read_object(request)
        fields = Fields(data)
        stored = api_keys.terms_of(key)
        terms = _read_terms(fields, stored)
        is_confirmed = fields.boolean("exclude_latest_caller")
        fields.refuse_wrong()
        api_keys.update_api_key(
            api_key=key,
            terms=terms,
            actor=caller.actor,
            # What was left out must still be what was read.
            expected_digest=stored.digest(),
            may_exclude_latest=is_confirmed,
        )
        return Response(describe_key(find_key(channel, key_id)))


class RotateView(ManageView):
    """Replaces a key."""

    @describe(
        operation_id="manage_rotate_key",
        summary=gettext_noop("Create a key's successor; the old key ends after the overlap"),
        parameters=[schemas.CHANNEL_ID, schemas.KEY_ID, schemas.IDEMPOTENCY_KEY],
        request=schemas.RotationSchema,
        responses={201: schemas.IssuedKeySchema} | errors(400, 404, 409, 411, 413, 415, 422),
    )
    def post(self, request: Request, channel_id: str, key_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        key = find_key(channel, key_id)
        raw, data = read_object(request)
        fields = Fields(data)
        overlap = fields.integer(
            "overlap_seconds", least=0, most=MOST_OVERLAP_SECONDS, default=USUAL_OVERLAP_SECONDS
        )
        fields.refuse_wrong()

        def rotate() -> Made:
            issued = spend_caps.rotate_key(
                api_key=key, overlap=timedelta(seconds=overlap), actor=caller.actor
            )
            return Made(describe_key(issued.record), issued=issued)

        return do_once(request, raw, rotate)


class RevokeView(ManageView):
    """Ends a key."""

    @describe(
        operation_id="manage_revoke_key",
        summary=gettext_noop("Revoke a key at once"),
        parameters=[schemas.CHANNEL_ID, schemas.KEY_ID, schemas.IDEMPOTENCY_KEY],
        request=None,
        responses={200: schemas.ChannelKeySchema} | errors(404, 409, 411, 422),
    )
    def post(self, request: Request, channel_id: str, key_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        key = find_key(channel, key_id)

        def revoke() -> Made:
            api_keys.revoke_api_key(api_key=key, actor=caller.actor)
            return Made(describe_key(find_key(channel, key_id)), status=200)

        return do_once(request, b"", revoke)


def _read_terms(fields: Fields, stored: KeyTerms) -> KeyTerms:
    """Return the stored terms with those that the body has."""
    read: dict[str, Callable[[], Any]] = {
        "name": lambda: fields.text("name", limit=LONGEST_NAME),
        "expires_at": lambda: fields.moment("expires_at"),
        "allowed_addresses": lambda: fields.list_of_texts("allowed_addresses"),
        "allowed_models": lambda: fields.list_of_texts("allowed_models"),
    }
    return replace(stored, **{name: value() for name, value in read.items() if fields.has(name)})


def describe_key(key: ApiKey) -> dict[str, Any]:
    """Return a key as its programs see it, masked."""
    has_ended = key.expires_at is not None and key.expires_at <= timezone.now()
    terms = api_keys.terms_of(key)
    return {
        "id": str(key.id),
        "name": terms.name,
        "masked": key.masked,
        "mode": key.mode,
        "active": key.revoked_at is None and not has_ended,
        "created_at": rfc3339(key.created_at),
        "expires_at": rfc3339(key.expires_at),
        "revoked_at": rfc3339(key.revoked_at),
        "allowed_addresses": list(terms.allowed_addresses),
        "allowed_models": list(terms.allowed_models),
    }

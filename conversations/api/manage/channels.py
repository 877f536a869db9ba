"""/api/manage/channels: list, create, read, change, retire, and delete channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext_noop
from rest_framework.request import Request
from rest_framework.response import Response

from channels import channel_changes
from channels.account_callers import account_caller_of
from channels.fallbacks import CODES, LONGEST_REPLY
from channels.models import MAX_SYSTEM_PROMPT_CHARACTERS, Channel
from channels.models.tags import read_tags, write_tags
from common.api.base import read_object
from common.api.openapi import describe
from common.clock import rfc3339
from conversations.api.manage import schemas
from conversations.api.manage.answer_settings import (
    describe_answer_settings,
    read_answer_settings,
)
from conversations.api.manage.base import ManageView, find_channel, read_query
from conversations.api.manage.fields import LARGEST, Fields
from conversations.api.manage.once import Made, do_once
from conversations.api.manage.paging import list_page
from conversations.api.manage.schemas import errors
from conversations.archive import retirement


class ChannelsView(ManageView):
    """The account's channels."""

    @describe(
        operation_id="manage_list_channels",
        summary=gettext_noop("List the account's channels, oldest first"),
        parameters=[schemas.LIMIT, schemas.CURSOR, schemas.EXTERNAL_ID],
        responses={200: schemas.ChannelPageSchema} | errors(400),
    )
    def get(self, request: Request) -> Response:
        rows = Channel.objects.filter(account_id=account_caller_of(request).account_id)
        external_id = read_query(request).get("external_id")
        if external_id is not None:
            # No text with a NUL is stored, and PostgreSQL refuses to compare one.
            rows = rows.filter(external_id=external_id.replace("\0", "\N{REPLACEMENT CHARACTER}"))
        return list_page(request, rows.select_related("model", "fallback_model"), describe_channel)

    @describe(
        operation_id="manage_create_channel",
        summary=gettext_noop("Create a channel"),
        parameters=[schemas.IDEMPOTENCY_KEY],
        request=schemas.NewChannelSchema,
        responses={201: schemas.ChannelSchema} | errors(400, 409, 411, 413, 415, 422),
    )
    def post(self, request: Request) -> Response:
        caller = account_caller_of(request)
        raw, data = read_object(request)
        fields = Fields(data)
        values = _read_settings(fields, account_id=caller.account_id)
        fields.refuse_wrong()

        def create() -> Made:
            channel = channel_changes.create_channel(
                account=caller.account, actor=caller.actor, **values
            )
            return Made(describe_channel(channel))

        return do_once(request, raw, create)


class ChannelView(ManageView):
    """One channel."""

    @describe(
        operation_id="manage_get_channel",
        summary=gettext_noop("Get a channel"),
        parameters=[schemas.CHANNEL_ID],
        responses={200: schemas.ChannelSchema} | errors(404),
    )
    def get(self, request: Request, channel_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        return Response(describe_channel(channel))

    @describe(
        operation_id="manage_update_channel",
        summary=gettext_noop("Change a channel's settings"),
        parameters=[schemas.CHANNEL_ID],
        request=schemas.ChannelChangesSchema,
        responses={200: schemas.ChannelSchema} | errors(400, 404, 411, 413, 415),
    )
    def patch(self, request: Request, channel_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        _, data = read_object(request)
        fields = Fields(data)
        values = _read_settings(fields, account_id=caller.account_id, channel=channel)
        fields.refuse_wrong()
        if values:
            channel = channel_changes.update_channel(
                channel_id=str(channel.id), actor=caller.actor, **values
            )
        return Response(describe_channel(channel))

    @describe(
        operation_id="manage_delete_channel",
        summary=gettext_noop("Delete a channel that never received a message"),
        parameters=[schemas.CHANNEL_ID],
        responses={204: None} | errors(400, 404),
    )
    def delete(self, request: Request, channel_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        retirement.delete_channel(channel=channel, actor=caller.actor)
        return Response(status=204)


class RetireView(ManageView):
    """Takes a channel down."""

    @describe(
        operation_id="manage_retire_channel",
        summary=gettext_noop(
            "Retire a channel: switch it off, revoke its keys, erase its transcripts"
        ),
        parameters=[schemas.CHANNEL_ID, schemas.IDEMPOTENCY_KEY],
        request=None,
        responses={200: schemas.RetiredChannelSchema} | errors(404, 409, 411, 422),
    )
    def post(self, request: Request, channel_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)

        def retire() -> Made:
            erased = retirement.retire_channel(channel=channel, actor=caller.actor)
            channel.is_enabled = False
            return Made(describe_channel(channel) | {"erased_messages": erased}, status=200)

        return do_once(request, b"", retire)


def _read_settings(
    fields: Fields, *, account_id: int, channel: Channel | None = None
) -> dict[str, Any]:
    """Return the settings that the body has, as the services name them."""
    is_new = channel is None
    read: dict[str, Callable[[], Any]] = {
        "name": lambda: fields.text("name", limit=120, is_required=is_new),
        "external_id": lambda: fields.text("external_id", limit=120) or None,
        "site_url": lambda: fields.text("site_url", limit=200),
        "tags": lambda: _read_tags(fields),
        "enabled": lambda: fields.boolean("enabled"),
        "model": lambda: fields.text("model", limit=100),
        "requests_per_minute": lambda: fields.integer("requests_per_minute", least=1, most=100_000),
        "daily_quota": lambda: fields.integer("daily_quota", least=1, most=LARGEST),
        "fallback_replies": lambda: fields.texts(
            "fallback_replies", keys=CODES, limit=LONGEST_REPLY
        ),
        "system_prompt": lambda: fields.text("system_prompt", limit=MAX_SYSTEM_PROMPT_CHARACTERS),
    }
    renamed = {"enabled": "is_enabled", "model": "model_id"}
    return {
        renamed.get(name, name): value()
        for name, value in read.items()
        if fields.has(name) or (name == "name" and is_new)
    } | read_answer_settings(fields, account_id=account_id, channel=channel)


def _read_tags(fields: Fields) -> str:
    tags = fields.list_of_texts("tags")
    if any("," in tag for tag in tags):
        fields.wrong.setdefault("tags", "A tag has no comma.")
    return write_tags(tags)


def describe_channel(channel: Channel) -> dict[str, Any]:
    """Return a channel as its programs see it. The prompt's text is that of its version."""
    return {
        "id": str(channel.id),
        "external_id": channel.external_id,
        "name": channel.name,
        "site_url": channel.site_url,
        "tags": read_tags(channel.tags),
        "enabled": channel.is_enabled,
        "model": channel.model.model_id,
        "prompt_version": channel.prompt_version,
        "requests_per_minute": channel.requests_per_minute,
        "daily_quota": channel.daily_quota,
        "fallback_replies": channel.fallback_replies,
        **describe_answer_settings(channel),
        "created_at": rfc3339(channel.created_at),
    }

"""/api/manage/channels/{id}/prompt-versions: publish a prompt and answer settings, read earlier."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_noop
from rest_framework.request import Request
from rest_framework.response import Response

from channels import channel_changes
from channels.models import MAX_SYSTEM_PROMPT_CHARACTERS, Channel, PromptVersion
from common.api.base import read_object
from common.api.openapi import describe
from common.clock import rfc3339
from common.errors import NotFound
from conversations.api.manage import schemas
from conversations.api.manage.answer_settings import (
    describe_answer_settings,
    read_answer_settings,
)
from conversations.api.manage.base import ManageView, find_channel
from conversations.api.manage.fields import Fields
from conversations.api.manage.once import Made, do_once
from conversations.api.manage.paging import list_page
from conversations.api.manage.schemas import errors


class PromptVersionsView(ManageView):
    """The versions of a channel's system prompt."""

    @describe(
        operation_id="manage_list_prompt_versions",
        summary=gettext_noop("List a channel's prompt versions, newest first, without their texts"),
        parameters=[schemas.CHANNEL_ID, schemas.LIMIT, schemas.CURSOR],
        responses={200: schemas.PromptVersionPageSchema} | errors(400, 404),
    )
    def get(self, request: Request, channel_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        rows = _versions_of(channel).defer("text")
        return list_page(request, rows, _describe, by=("number",), is_descending=True)

    @describe(
        operation_id="manage_publish_prompt",
        summary=gettext_noop("Publish a prompt, or how the model answers, as the next version"),
        parameters=[schemas.CHANNEL_ID, schemas.IDEMPOTENCY_KEY],
        request=schemas.NewPromptVersionSchema,
        responses={
            200: schemas.PromptVersionSchema,
            201: schemas.PromptVersionSchema,
        }
        | errors(400, 404, 409, 411, 413, 415, 422),
    )
    def post(self, request: Request, channel_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        raw, data = read_object(request)
        fields = Fields(data)
        changes = read_answer_settings(fields, account_id=caller.account_id, channel=channel)
        text = fields.text("text", limit=MAX_SYSTEM_PROMPT_CHARACTERS, is_required=not changes)
        if fields.has("text"):
            changes["system_prompt"] = text
        note = fields.text("note", limit=200)
        fields.refuse_wrong()

        def publish() -> Made:
            saved = channel_changes.update_channel(
                channel_id=str(channel.id), actor=caller.actor, prompt_note=note, **changes
            )
            version = _versions_of(channel).get(number=saved.prompt_version)
            is_new = saved.prompt_version != channel.prompt_version
            return Made(_describe_whole(version), status=201 if is_new else 200)

        return do_once(request, raw, publish)


class PromptVersionView(ManageView):
    """One version of a prompt."""

    @describe(
        operation_id="manage_get_prompt_version",
        summary=gettext_noop("Get one version of a prompt, with its text"),
        parameters=[schemas.CHANNEL_ID, schemas.PROMPT_NUMBER],
        responses={200: schemas.PromptVersionSchema} | errors(404),
    )
    def get(self, request: Request, channel_id: str, number: str) -> Response:
        _, channel = find_channel(request, channel_id)
        version = _versions_of(channel).filter(number=int(number)).first()
        if version is None:
            raise NotFound("This channel has no prompt version with that number.")
        return Response(_describe_whole(version))


def _versions_of(channel: Channel) -> QuerySet[PromptVersion]:
    rows = PromptVersion.objects.filter(channel=channel)
    return rows.select_related("author", "fallback_model")


def _describe(version: PromptVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        "note": version.note,
        "author": version.author.email if version.author else None,
        **describe_answer_settings(version),
        "created_at": rfc3339(version.created_at),
    }


def _describe_whole(version: PromptVersion) -> dict[str, Any]:
    return _describe(version) | {"text": version.text}

"""/api/manage/channels/{id}/saved-replies: answers that visitors get without the AI, free."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_noop
from rest_framework.request import Request
from rest_framework.response import Response

from channels import fixed_answers
from channels.models import LONGEST_QUESTION, LONGEST_SAVED_REPLY, Channel, FixedAnswer
from common.api.base import read_object
from common.api.openapi import describe
from common.errors import NotFound
from conversations.api.manage import schemas
from conversations.api.manage.base import ManageView, find_channel
from conversations.api.manage.fields import Fields
from conversations.api.manage.once import Made, do_once
from conversations.api.manage.paging import list_page
from conversations.api.manage.schemas import errors


class SavedRepliesView(ManageView):
    """The saved replies of a channel."""

    @describe(
        operation_id="manage_list_saved_replies",
        summary=gettext_noop("List a channel's saved replies, oldest first"),
        parameters=[schemas.CHANNEL_ID, schemas.LIMIT, schemas.CURSOR],
        responses={200: schemas.SavedReplyPageSchema} | errors(400, 404),
    )
    def get(self, request: Request, channel_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        return list_page(request, _replies_of(channel), _describe)

    @describe(
        operation_id="manage_create_saved_reply",
        summary=gettext_noop("Add a saved reply"),
        parameters=[schemas.CHANNEL_ID, schemas.IDEMPOTENCY_KEY],
        request=schemas.NewSavedReplySchema,
        responses={200: schemas.SavedReplySchema, 201: schemas.SavedReplySchema}
        | errors(400, 404, 409, 411, 413, 415, 422),
    )
    def post(self, request: Request, channel_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        raw, data = read_object(request)
        fields = Fields(data)
        question = fields.text("question", limit=LONGEST_QUESTION, is_required=True)
        answer = fields.text("answer", limit=LONGEST_SAVED_REPLY, is_required=True)
        wordings = _read_wordings(fields)
        fields.refuse_wrong()

        def add() -> Made:
            added, is_new = fixed_answers.add_fixed_answer(
                channel=channel,
                question=question,
                answer=answer,
                wordings=wordings,
                actor=caller.actor,
            )
            return Made(_describe(added), status=201 if is_new else 200)

        return do_once(request, raw, add)


class SavedReplyView(ManageView):
    """One saved reply."""

    @describe(
        operation_id="manage_get_saved_reply",
        summary=gettext_noop("Get a saved reply"),
        parameters=[schemas.CHANNEL_ID, schemas.REPLY_ID],
        responses={200: schemas.SavedReplySchema} | errors(404),
    )
    def get(self, request: Request, channel_id: str, reply_id: str) -> Response:
        _, channel = find_channel(request, channel_id)
        return Response(_describe(_find_reply(channel, reply_id)))

    @describe(
        operation_id="manage_update_saved_reply",
        summary=gettext_noop("Change a saved reply"),
        parameters=[schemas.CHANNEL_ID, schemas.REPLY_ID],
        request=schemas.SavedReplyChangesSchema,
        responses={200: schemas.SavedReplySchema} | errors(400, 404, 411, 413, 415),
    )
    def patch(self, request: Request, channel_id: str, reply_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        reply = _find_reply(channel, reply_id)
        _, data = read_object(request)
        fields = Fields(data)
        question = fields.text("question", limit=LONGEST_QUESTION)
        answer = fields.text("answer", limit=LONGEST_SAVED_REPLY)
        wordings = _read_wordings(fields)
        fields.refuse_wrong()
        stored = fixed_answers.update_fixed_answer(
            fixed_answer=reply,
            question=question if fields.has("question") else reply.question,
            answer=answer if fields.has("answer") else reply.answer,
            wordings=wordings if fields.has("wordings") else None,
            actor=caller.actor,
            # What was left out must still be what was read.
            expected_digest=fixed_answers.digest_of(reply),
        )
        return Response(_describe(reply, stored))

    @describe(
        operation_id="manage_delete_saved_reply",
        summary=gettext_noop("Delete a saved reply"),
        parameters=[schemas.CHANNEL_ID, schemas.REPLY_ID],
        responses={204: None} | errors(404),
    )
    def delete(self, request: Request, channel_id: str, reply_id: str) -> Response:
        caller, channel = find_channel(request, channel_id)
        reply = _find_reply(channel, reply_id)
        fixed_answers.delete_fixed_answer(fixed_answer=reply, actor=caller.actor)
        return Response(status=204)


def _replies_of(channel: Channel) -> QuerySet[FixedAnswer]:
    return FixedAnswer.objects.filter(channel=channel).prefetch_related("wordings")


def _read_wordings(fields: Fields) -> list[str]:
    most = fixed_answers.MOST_WORDINGS - 1  # the question is one of them
    return fields.list_of_texts("wordings", limit=LONGEST_QUESTION, most=most)


def _find_reply(channel: Channel, reply_id: str) -> FixedAnswer:
    reply = _replies_of(channel).filter(id=int(reply_id)).first()
    if reply is None:
        raise NotFound("This channel has no saved reply with that id.")
    reply.channel = channel
    return reply


def _describe(reply: FixedAnswer, wordings: list[str] | None = None) -> dict[str, Any]:
    wordings = fixed_answers.list_wordings(reply) if wordings is None else wordings
    return {
        "id": reply.id,
        "question": reply.question,
        "wordings": wordings[1:],
        "answer": reply.answer,
    }

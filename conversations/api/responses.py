"""POST /v1/responses, as OpenAI clients know it, but stateless: no response is kept."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from django.utils.translation import gettext_noop
from drf_spectacular.utils import OpenApiResponse
from rest_framework.request import Request

from billing.throttling import ChatThrottle, CountedKey
from channels.authentication import ChannelIsEnabled, caller_of
from common.api.openapi import describe, openai_errors
from common.logs import request_id_var
from conversations.api import openai_schemas
from conversations.api.chat import (
    IDEMPOTENCY_KEY,
    SIMULATE,
    AskingView,
    read_request,
    respond,
)
from conversations.api.openai import CompletionsView
from conversations.api.responses_requests import parse_response_request
from conversations.api.streams import stream_answer
from conversations.chat import answer


class ResponsesView(AskingView):
    """The same as a completion, in OpenAI's newer protocol."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ChatThrottle,)
    max_body_bytes = CompletionsView.max_body_bytes

    @describe(
        operation_id="create_response",
        summary=gettext_noop("Create a response, as OpenAI does, without storing it"),
        parameters=[IDEMPOTENCY_KEY, SIMULATE],
        request=openai_schemas.ResponseRequestSchema,
        responses={
            (200, "application/json"): OpenApiResponse(
                openai_schemas.ResponseSchema,
                "The answer. With `stream`: events, the last of them `response.completed`, "
                "`response.incomplete` or `response.failed`; the schema of `text/event-stream` "
                "describes each event.",
            ),
            (200, "text/event-stream"): openai_schemas.ResponseEventSchema,
        }
        | openai_errors(400, 401, 402, 403, 404, 405, 409, 411, 413, 415, 422, 429, 500, 502, 503),
    )
    def post(self, request: Request) -> HttpResponseBase:
        caller = caller_of(request)
        asked = parse_response_request(*read_request(request, caller, path="/v1/responses"))
        if asked.is_stream:
            return stream_answer(caller, asked)
        return respond(answer.answer(caller=caller, asked=asked, request_id=request_id_var.get()))

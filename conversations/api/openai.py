"""POST /v1/chat/completions, GET /v1/models and /v1/models/{id}, as OpenAI clients know them."""

from __future__ import annotations

from typing import Any

from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext_noop
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

from billing.throttling import ChatThrottle, CountedKey, ReadThrottle
from channels import catalogue, model_ends
from channels.authentication import ChannelIsEnabled, caller_of, check_model
from channels.callers import Caller, ModelTerms
from common.api.base import ApiView
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
from conversations.api.openai_requests import parse_completion_request
from conversations.api.streams import stream_answer
from conversations.chat import answer
from conversations.errors import ModelNotFound


class CompletionsView(AskingView):
    """Lets the channel's model answer the caller's own messages. The gateway remembers nothing."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ChatThrottle,)
    max_body_bytes = 1024 * 1024

    @describe(
        operation_id="create_chat_completion",
        summary=gettext_noop("Complete a chat, as OpenAI does"),
        parameters=[IDEMPOTENCY_KEY, SIMULATE],
        request=openai_schemas.CompletionRequestSchema,
        responses={
            (200, "application/json"): OpenApiResponse(
                openai_schemas.CompletionSchema,
                "The answer. With `stream`: chunks, then `[DONE]`, or one error instead; the "
                "schema of `text/event-stream` describes each event.",
            ),
            (200, "text/event-stream"): openai_schemas.CompletionEventSchema,
        }
        | openai_errors(400, 401, 402, 403, 404, 405, 409, 411, 413, 415, 422, 429, 500, 502, 503),
    )
    def post(self, request: Request) -> HttpResponseBase:
        caller = caller_of(request)
        asked = parse_completion_request(
            *read_request(request, caller, path="/v1/chat/completions")
        )
        if asked.is_stream:
            return stream_answer(caller, asked)
        return respond(answer.answer(caller=caller, asked=asked, request_id=request_id_var.get()))


class ModelsView(ApiView):
    """The models this key may ask for."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="list_openai_models",
        summary=gettext_noop("List the models, as OpenAI does"),
        responses={200: openai_schemas.OpenAiModelListSchema}
        | openai_errors(401, 403, 405, 429, 500, 503),
    )
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        models = catalogue.list_terms(caller=caller)
        models = [model for model in models if caller.may_use(model.model_id)]
        return Response({"object": "list", "data": _describe(models, caller)})


class ModelView(ApiView):
    """One model this key may ask for."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="get_openai_model",
        summary=gettext_noop("Get one of the models"),
        parameters=[
            OpenApiParameter(
                "model_id", str, OpenApiParameter.PATH, description="May contain `/` and `:`."
            )
        ],
        responses={200: openai_schemas.OpenAiModelSchema}
        | openai_errors(401, 403, 404, 405, 429, 500, 503),
    )
    def get(self, request: Request, model_id: str) -> Response:
        caller = caller_of(request)
        # PostgreSQL accepts no NUL, not even in a search.
        is_text = "\x00" not in model_id
        terms = catalogue.find_terms(caller=caller, model_id=model_id) if is_text else None
        if terms is None:
            raise ModelNotFound(model_id)
        check_model(caller, model_id)
        return Response(_describe([terms], caller)[0])


def _describe(models: list[ModelTerms], caller: Caller) -> list[dict[str, Any]]:
    ids = [model.model_id for model in models]
    ends = model_ends.list_ends(ids, account_id=caller.account_id, today=timezone.now().date())
    return [
        {
            "id": model.model_id,
            "object": "model",
            "created": 0,
            "owned_by": "gateway",
            "context_window": model.context_window_tokens,
            "max_output_tokens": model.max_output_tokens,
            "takes_images": model.image_tokens > 0,
            **ends[model.model_id],
        }
        for model in models
    ]

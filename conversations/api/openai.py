"""POST /v1/chat/completions, GET /v1/models and /v1/models/{id}, as OpenAI clients know them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

from billing.throttling import ChatThrottle, CountedKey, ReadThrottle
from channels import catalogue
from channels.authentication import caller_of
from channels.callers import Caller, ModelTerms
from channels.permissions import ChannelIsEnabled
from common.api.base import ApiView, parse_json_object, read_body
from common.api.openapi import describe, openai_errors
from common.logs import request_id_var
from conversations.api import openai_answers, openai_schemas, serializers
from conversations.api.openai_requests import parse_completion_request
from conversations.api.streams import stream_answer
from conversations.api.views import IDEMPOTENCY_KEY, SIMULATE
from conversations.chat import complete, failures
from conversations.chat.idempotency import Key
from conversations.chat.simulation import read_simulation
from conversations.errors import ModelNotFound

T = TypeVar("T")


class CompletionsView(ApiView):
    """The caller's own messages in, the channel's model's answer out; nothing is remembered."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ChatThrottle,)
    max_body_bytes = 1024 * 1024

    @describe(
        operation_id="create_chat_completion",
        summary="Complete a chat, as OpenAI does",
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
        path = "/v1/chat/completions"
        asked = read_request(request, caller, path=path, parse=parse_completion_request)
        complete_chat = partial(
            complete.complete_chat,
            caller=caller,
            asked=asked,
            request_id=request_id_var.get(),
            render=openai_answers.render_completion,
        )
        if asked.is_stream:
            return stream_answer(
                lambda tell: complete_chat(tell=tell),
                form=partial(openai_answers.Chunks, asked=asked),
                replay=partial(openai_answers.replay_chunks, asked=asked),
            )
        outcome = complete_chat()
        headers = serializers.answer_headers(outcome)
        return HttpResponse(outcome.body, content_type="application/json", headers=headers)


def read_request(
    request: Request,
    caller: Caller,
    *,
    path: str,
    parse: Callable[[dict[str, Any], Key | None, str], T],
) -> T:
    """Return what `parse` returns for the body, the Idempotency-Key, and the simulation.

    `path` makes the same key at another endpoint another key. Raises InvalidRequest or
    UnsupportedMediaType.
    """
    try:
        body = read_body(request)
        meta = request._request.META  # `request.headers` would parse all of them
        header = meta.get("HTTP_IDEMPOTENCY_KEY")
        key = serializers.read_idempotency_key(header, body, path=path)
        simulate = read_simulation(caller, meta.get("HTTP_X_SIMULATE"))
        return parse(parse_json_object(body), key, simulate)
    except failures.MALFORMED as error:
        failures.record_failure(
            caller, error, request_id=request_id_var.get(), model_id=caller.model.model_id
        )
        raise


class ModelsView(ApiView):
    """The models this channel may ask for."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="list_openai_models",
        summary="List the models, as OpenAI does",
        responses={200: openai_schemas.OpenAiModelListSchema}
        | openai_errors(401, 403, 405, 429, 500, 503),
    )
    def get(self, request: Request) -> Response:
        models = catalogue.list_terms(caller=caller_of(request))
        return Response({"object": "list", "data": [_describe(model) for model in models]})


class ModelView(ApiView):
    """One model this channel may ask for."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="get_openai_model",
        summary="Get one of the models",
        parameters=[
            OpenApiParameter(
                "model_id", str, OpenApiParameter.PATH, description="May contain `/` and `:`."
            )
        ],
        responses={200: openai_schemas.OpenAiModelSchema}
        | openai_errors(401, 403, 404, 405, 429, 500, 503),
    )
    def get(self, request: Request, model_id: str) -> Response:
        # PostgreSQL accepts no NUL, not even in a search.
        is_text = "\x00" not in model_id
        terms = (
            catalogue.find_terms(caller=caller_of(request), model_id=model_id) if is_text else None
        )
        if terms is None:
            raise ModelNotFound(model_id)
        return Response(_describe(terms))


def _describe(model: ModelTerms) -> dict[str, Any]:
    return {
        "id": model.model_id,
        "object": "model",
        "created": 0,
        "owned_by": "gateway",
        "context_window": model.context_window_tokens,
        "max_output_tokens": model.max_output_tokens,
        "takes_images": model.image_tokens > 0,
    }

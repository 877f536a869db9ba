"""What the OpenAPI document says about /v1: the members that this gateway reads and writes."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from conversations.api.openai_requests import ROLES
from conversations.api.parameters import PARAMETERS, passes
from conversations.api.schemas import UsageSchema

OBJECT = "An object as OpenAI's API reference describes it."
OF_ASSISTANTS = "Only in assistant messages, as the model returned it."
_NOT_SENT = f"{OF_ASSISTANTS} Accepted, but not sent to the provider."


def _optional(field: type[serializers.Field[Any, Any, Any, Any]], **more: Any) -> Any:
    return field(required=False, allow_null=True, **more)


class CompletionMessageSchema(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=ROLES)
    content = _optional(
        serializers.JSONField,
        help_text="A string, or a list of parts of type `text`; from a user also `image_url` if "
        "the model takes images, from an assistant also `refusal`.",
    )
    name = _optional(serializers.CharField)
    tool_calls = _optional(serializers.ListField, child=serializers.DictField())
    tool_call_id = _optional(serializers.CharField)
    refusal = _optional(serializers.CharField, help_text=OF_ASSISTANTS)
    reasoning_content = _optional(serializers.JSONField, help_text=OF_ASSISTANTS)
    reasoning = _optional(serializers.JSONField, help_text=OF_ASSISTANTS)
    reasoning_details = _optional(serializers.ListField, help_text=OF_ASSISTANTS)
    annotations = _optional(serializers.ListField, help_text=OF_ASSISTANTS)
    thinking_blocks = _optional(serializers.ListField, help_text=OF_ASSISTANTS)
    executed_tools = _optional(serializers.ListField, help_text=OF_ASSISTANTS)
    images = _optional(serializers.ListField, help_text=_NOT_SENT)
    citations = _optional(serializers.ListField, help_text=_NOT_SENT)
    search_results = _optional(serializers.ListField, help_text=_NOT_SENT)
    content_parts = _optional(serializers.ListField, help_text=_NOT_SENT)
    prefix = _optional(serializers.BooleanField, help_text=OF_ASSISTANTS)
    partial = _optional(serializers.BooleanField, help_text=OF_ASSISTANTS)


class StreamOptionsSchema(serializers.Serializer[Any]):
    include_usage = _optional(serializers.BooleanField)
    include_obfuscation = _optional(serializers.BooleanField, help_text="Only false is accepted.")


class CompletionRequestSchema(serializers.Serializer[Any]):
    """The caller's own messages; the channel's prompt goes before them.

    Members that are not here are refused by name, unless staff allow them for the model's routes.
    """

    model = serializers.CharField(
        min_length=1, help_text="The channel's model, or another it may use."
    )
    messages = serializers.ListField(child=CompletionMessageSchema(), min_length=1)
    stream = _optional(serializers.BooleanField)
    stream_options = StreamOptionsSchema(required=False, allow_null=True)
    temperature = _optional(serializers.FloatField, min_value=0, max_value=2)
    top_p = _optional(serializers.FloatField, min_value=0, max_value=1)
    presence_penalty = _optional(serializers.FloatField, min_value=-2, max_value=2)
    frequency_penalty = _optional(serializers.FloatField, min_value=-2, max_value=2)
    max_tokens = _optional(serializers.IntegerField, min_value=1)
    max_completion_tokens = _optional(serializers.IntegerField, min_value=1)
    stop = _optional(serializers.JSONField, help_text="A string, or a list of at most 4 strings.")
    seed = _optional(serializers.IntegerField)
    response_format = _optional(serializers.DictField, help_text=OBJECT)
    tools = _optional(serializers.ListField, child=serializers.DictField(), help_text=OBJECT)
    tool_choice = _optional(serializers.JSONField, help_text="none, auto, required or an object.")
    parallel_tool_calls = _optional(serializers.BooleanField)
    n = _optional(serializers.IntegerField, min_value=1, max_value=1)

    def get_fields(self) -> dict[str, Any]:
        """Add the other parameters that pass, with their rules (see parameters.py)."""
        fields: dict[str, Any] = super().get_fields()
        for name, parameter in PARAMETERS.items():
            if passes(name) and name not in fields:
                fields[name] = _optional(serializers.JSONField, help_text=parameter.rule)
        return fields


class CompletionAnswerSchema(serializers.Serializer[Any]):
    role = serializers.CharField()
    content = serializers.CharField(allow_null=True)
    refusal = serializers.CharField(allow_null=True)
    tool_calls = serializers.ListField(child=serializers.DictField(), required=False)


class CompletionChoiceSchema(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    message = CompletionAnswerSchema()
    logprobs = serializers.JSONField(allow_null=True)
    finish_reason = serializers.CharField()


class CompletionSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    created = serializers.IntegerField()
    model = serializers.CharField(help_text="The gateway's own id of the model.")
    choices = CompletionChoiceSchema(many=True)
    usage = UsageSchema()


class CompletionEventSchema(serializers.Serializer[Any]):
    """One server-sent event of a streamed answer; it has no name."""

    data = serializers.CharField(  # type: ignore[assignment]  # a member of that name
        help_text="JSON: a chunk as OpenAI's API reference describes it, or an OpenAiErrorSchema; "
        "or the text `[DONE]`."
    )


class ResponseRequestSchema(serializers.Serializer[Any]):
    """The whole conversation in `input`; the channel's prompt goes before it.

    Nothing is stored. Other members, and values that would need stored state or OpenAI's own tools,
    get 400 by name.
    """

    model = serializers.CharField(
        min_length=1, help_text="The channel's model, or another it may use."
    )
    input = serializers.JSONField(
        help_text="A string, or a list of items of type message, function_call, "
        "function_call_output or reasoning, in text."
    )
    instructions = _optional(serializers.CharField)
    stream = _optional(serializers.BooleanField)
    stream_options = _optional(serializers.DictField, help_text=OBJECT)
    store = _optional(serializers.BooleanField, help_text="Must be false or left out.")
    temperature = _optional(serializers.FloatField, min_value=0, max_value=2)
    top_p = _optional(serializers.FloatField, min_value=0, max_value=1)
    top_logprobs = _optional(serializers.IntegerField, min_value=0, max_value=20)
    max_output_tokens = _optional(serializers.IntegerField, min_value=1)
    text = _optional(serializers.DictField, help_text="May contain format and verbosity.")
    reasoning = _optional(serializers.DictField, help_text="May contain effort and summary.")
    tools = _optional(
        serializers.ListField, child=serializers.DictField(), help_text="Only of type function."
    )
    tool_choice = _optional(serializers.JSONField, help_text="none, auto, required or an object.")
    parallel_tool_calls = _optional(serializers.BooleanField)
    include = _optional(
        serializers.ListField,
        child=serializers.CharField(),
        help_text="message.output_text.logprobs; reasoning.encrypted_content adds nothing.",
    )
    metadata = _optional(serializers.DictField, help_text="Returned in the response.")
    truncation = _optional(serializers.CharField, help_text="disabled.")
    service_tier = _optional(serializers.CharField, help_text="auto or default.")
    background = _optional(serializers.BooleanField, help_text="Must be false or left out.")
    user = _optional(serializers.CharField)
    safety_identifier = _optional(serializers.CharField)
    prompt_cache_key = _optional(serializers.CharField)


class ResponseUsageSchema(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    input_tokens_details = serializers.DictField(child=serializers.IntegerField())
    output_tokens = serializers.IntegerField()
    output_tokens_details = serializers.DictField(child=serializers.IntegerField())
    total_tokens = serializers.IntegerField()
    estimated = serializers.BooleanField(
        required=False, help_text="Present and true if the provider reported no usage."
    )


class ResponseSchema(serializers.Serializer[Any]):
    """Besides these, it repeats the members of the request as the gateway understood them."""

    id = serializers.CharField()
    object = serializers.CharField()
    created_at = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["completed", "incomplete"])
    error = serializers.JSONField(allow_null=True)
    incomplete_details = serializers.DictField(allow_null=True)
    model = serializers.CharField(help_text="The gateway's own id of the model.")
    output = serializers.ListField(child=serializers.DictField(), help_text=OBJECT)
    usage = ResponseUsageSchema()


class ResponseEventSchema(serializers.Serializer[Any]):
    """One server-sent event of a streamed response."""

    event = serializers.CharField(help_text="The `type` in its data.")
    data = serializers.CharField(  # type: ignore[assignment]  # a member of that name
        help_text="JSON: an event as OpenAI's API reference describes it."
    )


class OpenAiModelSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    created = serializers.IntegerField()
    owned_by = serializers.CharField()
    context_window = serializers.IntegerField()
    max_output_tokens = serializers.IntegerField()
    takes_images = serializers.BooleanField(
        help_text="Whether messages may have `image_url` parts."
    )
    ends_on = serializers.DateField(
        allow_null=True, help_text="The UTC day on which the model retires, from 30 days before."
    )
    successor = serializers.CharField(
        allow_null=True, help_text="The id of the model that replaces it on that day."
    )


class OpenAiModelListSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    data = OpenAiModelSchema(many=True)  # type: ignore[assignment]  # a member of that name

"""Converts the `input` of POST /v1/responses into the messages of a chat.

Adjacent items of a model (reasoning, text, function calls) become one message of a chat.
Protocol: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from channels.providers.base import CONTENT_PARTS, REASONING_NAMES
from conversations.api import images
from conversations.api.parameters import Fields, check_writable

# The member of a reasoning item that keeps the provider's name for the text. The text goes back
# under the same name, because providers refuse each other's names.
REASONING_FIELD = "provider_field"
NO_STORE = (
    "The gateway stores no items to refer to: send the item itself. Vercel's AI SDK sends the text "
    "with `providerOptions.openai.store: false`."
)
_PARTS_RULE = "Must be a string, or a list of parts of type {}."
_ROLES = ("user", "assistant", "system", "developer")
# The parts that these roles may have. Other roles have only texts.
_KINDS = {
    "user": ("input_text", "input_image"),
    "assistant": ("output_text", "refusal", "input_text"),
}
# What an item or a part may contain besides what is read: its original members, and what clients
# add to them.
_OF_ANY = frozenset({"type", "id", "status"})
_OF_PART = frozenset({"type", "text", "refusal", "annotations", "logprobs", "parsed"})
_OF_IMAGE = frozenset({"type", "image_url", "detail"})
_IMAGE_RULE = (
    f"Must be an https address, or data:image/{', '.join(images.TYPES)};base64 with an image in "
    f"it; detail, if any, is {', '.join(images.DETAILS)}."
)
_OF_CALL = _OF_ANY | {"call_id", "name", "arguments", "parsed_arguments"}
# Members of calls that OpenAI runs in other ways. Unknown members go to the provider.
_NOT_OF_CALL = ("async", "caller", "namespace")


def parse_input(value: Any, fields: Fields) -> list[dict[str, Any]]:
    """Return the messages. Adds the errors of each item to `fields`."""
    if isinstance(value, str):
        check_writable(value, "input", fields)
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        fields["input"] = "Must be a string, or a list of at least one item."
        return []
    conversation = _Conversation(fields)
    for number, item in enumerate(value):
        path = f"input[{number}]"
        if not isinstance(item, dict):
            fields[path] = "Must be an object."
        elif _is_writable(item, path, fields):
            conversation.add(item, path)
    messages = conversation.messages()
    if not messages and not fields:
        fields["input"] = "Must hold at least one message."
    return messages


def _is_writable(item: dict[str, Any], path: str, fields: Fields) -> bool:
    check_writable(item, path, fields)
    return path not in fields


def refuse_others(value: dict[str, Any], known: Collection[str], path: str, fields: Fields) -> None:
    """Add an error for each unknown member. Null is the same as leaving a member out."""
    for name, member in value.items():
        if name not in known and member is not None:
            fields[f"{path}.{name[:64]}"] = "The gateway does not know this member. Leave it out."


class _Conversation:
    """Takes items one by one and joins those that belong to one message of a chat."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._messages: list[dict[str, Any]] = []

    def add(self, item: dict[str, Any], path: str) -> None:
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item or "id" not in item else "item_reference"
        match kind:
            case "message":
                self._add_message(item, path)
            case "function_call":
                self._add_call(item, path)
            case "function_call_output":
                self._add_output(item, path)
            case "reasoning":
                self._add_reasoning(item, path)
            case "item_reference":
                self._fields[path] = NO_STORE
            case _:
                self._fields[f"{path}.type"] = (
                    "Must be message, function_call, function_call_output or reasoning: the "
                    "gateway knows no other items."
                )

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages, without a model's messages that have no text, call, or refusal."""
        return [
            message | {"content": _simplest(message["content"])}
            for message in self._messages
            if message["role"] != "assistant"
            or message["content"]
            or message.keys() & {"tool_calls", "refusal"}
        ]

    def _add_message(self, item: dict[str, Any], path: str) -> None:
        refuse_others(item, _OF_ANY | {"role", "content", CONTENT_PARTS}, path, self._fields)
        role = item.get("role")
        if role not in _ROLES:
            self._fields[f"{path}.role"] = f"Must be one of {', '.join(_ROLES)}."
            return
        kinds = _KINDS.get(role, ("input_text",))
        parts, refusal = self._read_parts(item.get("content"), kinds, f"{path}.content")
        if role != "assistant":
            self._messages.append({"role": role, "content": parts})
            return
        message = self._own_message(has_text=True)
        message["content"] += parts
        if refusal:
            message["refusal"] = message.get("refusal", "") + refusal

    def _add_call(self, item: dict[str, Any], path: str) -> None:
        for name in ("call_id", "name", "arguments"):
            if not isinstance(item.get(name), str):
                self._fields[f"{path}.{name}"] = "Must be a string."
        for name in _NOT_OF_CALL:
            if item.get(name) is not None:
                self._fields[f"{path}.{name}"] = "Must be left out: only plain functions work here."
        others = {
            name: member
            for name, member in item.items()
            if name not in _OF_CALL and name not in _NOT_OF_CALL and member is not None
        }
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = others | {"id": item.get("call_id"), "type": "function", "function": function}
        self._own_message().setdefault("tool_calls", []).append(call)

    def _add_output(self, item: dict[str, Any], path: str) -> None:
        refuse_others(item, _OF_ANY | {"call_id", "output"}, path, self._fields)
        if not isinstance(item.get("call_id"), str):
            self._fields[f"{path}.call_id"] = (
                "Must be the call_id of the call that this item answers."
            )
        parts, _ = self._read_parts(item.get("output"), ("input_text",), f"{path}.output")
        self._messages.append(
            {"role": "tool", "tool_call_id": item.get("call_id"), "content": parts}
        )

    def _add_reasoning(self, item: dict[str, Any], path: str) -> None:
        """Give a provider its own reasoning back. Drop other reasoning, which no provider reads."""
        known = _OF_ANY | {"summary", "content", "encrypted_content", REASONING_FIELD}
        refuse_others(item, known, path, self._fields)
        name = item.get(REASONING_FIELD)
        parts = item.get("content") or []
        if not isinstance(parts, list) or not all(
            isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts
        ):
            self._fields[f"{path}.content"] = "Must be a list of parts of type reasoning_text."
        elif name in REASONING_NAMES and parts:
            message = self._own_message(has_text=True)
            text = "".join(part["text"] for part in parts)
            message[name] = message.get(name, "") + text

    def _own_message(self, *, has_text: bool = False) -> dict[str, Any]:
        """Return the model's current message, or a new one.

        Two texts are two messages, unless a call comes before the second text, because nothing may
        come between a call and its output.
        """
        last = self._messages[-1] if self._messages else {}
        if last.get("role") != "assistant" or (
            has_text and last["content"] and "tool_calls" not in last
        ):
            last = {"role": "assistant", "content": []}
            self._messages.append(last)
        return last

    def _read_parts(
        self, value: Any, kinds: tuple[str, ...], path: str
    ) -> tuple[list[dict[str, Any]], str]:
        """Return a content as parts of a chat, and its refusal."""
        if isinstance(value, str):
            return [{"type": "text", "text": value}], ""
        rule = _PARTS_RULE.format(" or ".join(kinds))
        if not isinstance(value, list) or not value:
            self._fields[path] = rule
            return [], ""
        parts: list[dict[str, Any]] = []
        refusals: list[str] = []
        for number, part in enumerate(value):
            where = f"{path}[{number}]"
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in kinds:
                self._fields[where] = rule
            elif kind == "input_image":
                parts.append(self._read_image(part, where))
            else:
                text = part.get("refusal" if kind == "refusal" else "text")
                if not isinstance(text, str):
                    self._fields[where] = "Must contain text."
                    continue
                refuse_others(part, _OF_PART, where, self._fields)
                if kind == "refusal":
                    refusals.append(text)
                else:
                    parts.append({"type": "text", "text": text})
        return parts, "".join(refusals)

    def _read_image(self, part: dict[str, Any], path: str) -> dict[str, Any]:
        refuse_others(part, _OF_IMAGE, path, self._fields)
        image = {"url": part.get("image_url")}
        if part.get("detail") is not None:
            image["detail"] = part["detail"]
        if not images.is_image(image):
            self._fields.setdefault(f"{path}.image_url", _IMAGE_RULE)
        return {"type": "image_url", "image_url": image}


def _simplest(parts: list[dict[str, Any]]) -> Any:
    """Return a single text as a string, which every provider takes, and other contents as parts."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts or None

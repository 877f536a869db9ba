"""The `input` of POST /v1/responses as the messages of a chat.

Items that a model wrote side by side (its reasoning, a text, calls of functions) are one message of
a chat. Protocol: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from channels.providers.base import REASONING_NAMES
from conversations.api.parameters import Fields, check_writable

# The member of a reasoning item that says what its provider called the text, so that the text goes
# back under the same name: providers refuse each other's.
REASONING_FIELD = "provider_field"
NO_STORE = (
    "The gateway stores no items to refer to: send the item itself. Vercel's AI SDK sends the text "
    "with `providerOptions.openai.store: false`."
)
_TEXT_ONLY = "Must be text: a string, or a list of parts of type {}."
_ROLES = ("user", "assistant", "system", "developer")
# What an item or a part may hold beside what is read: how it came, and what clients add to it.
_OF_ANY = frozenset({"type", "id", "status"})
_OF_PART = frozenset({"type", "text", "refusal", "annotations", "logprobs", "parsed"})
_OF_CALL = _OF_ANY | {"call_id", "name", "arguments", "parsed_arguments"}
# Members of a call that OpenAI runs otherwise; members nobody knows go to the provider.
_NOT_OF_CALL = ("async", "caller", "namespace")


def parse_input(value: Any, fields: Fields) -> list[dict[str, Any]]:
    """Return the messages; note in `fields` what is wrong with which item."""
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
    """Note members that are not known; null is the same as leaving one out."""
    for name, member in value.items():
        if name not in known and member is not None:
            fields[f"{path}.{name[:64]}"] = "The gateway does not know this, and drops nothing."


class _Conversation:
    """Takes items one by one and puts together what one message of a chat holds."""

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
        """Return the messages, without those of a model that hold neither text nor call."""
        return [
            message | {"content": _simplest(message["content"])}
            for message in self._messages
            if message["role"] != "assistant"
            or message["content"]
            or message.keys() & {"tool_calls", "refusal"}
        ]

    def _add_message(self, item: dict[str, Any], path: str) -> None:
        refuse_others(item, _OF_ANY | {"role", "content"}, path, self._fields)
        role = item.get("role")
        if role not in _ROLES:
            self._fields[f"{path}.role"] = f"Must be one of {', '.join(_ROLES)}."
            return
        is_model = role == "assistant"
        kinds = ("output_text", "refusal", "input_text") if is_model else ("input_text",)
        texts, refusal = self._read_parts(item.get("content"), kinds, f"{path}.content")
        if not is_model:
            self._messages.append({"role": role, "content": texts})
            return
        message = self._own_message(has_text=True)
        message["content"] += texts
        if refusal:
            message["refusal"] = message.get("refusal", "") + refusal

    def _add_call(self, item: dict[str, Any], path: str) -> None:
        for name in ("call_id", "name", "arguments"):
            if not isinstance(item.get(name), str):
                self._fields[f"{path}.{name}"] = "Must be a string."
        for name in _NOT_OF_CALL:
            if item.get(name) is not None:
                self._fields[f"{path}.{name}"] = "Must be left out: only plain functions are."
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
            self._fields[f"{path}.call_id"] = "Must be the call_id of the call that this answers."
        texts, _ = self._read_parts(item.get("output"), ("input_text",), f"{path}.output")
        self._messages.append(
            {"role": "tool", "tool_call_id": item.get("call_id"), "content": texts}
        )

    def _add_reasoning(self, item: dict[str, Any], path: str) -> None:
        """Give a provider back what it showed of its reasoning; others' has nobody to read it."""
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
        """Return the model's message under way, or a new one.

        Two texts are two messages, unless there is a call before the second: nothing may come
        between a call and its output.
        """
        last = self._messages[-1] if self._messages else {}
        if last.get("role") != "assistant" or (
            has_text and last["content"] and "tool_calls" not in last
        ):
            last = {"role": "assistant", "content": []}
            self._messages.append(last)
        return last

    def _read_parts(self, value: Any, kinds: tuple[str, ...], path: str) -> tuple[list[str], str]:
        """Return the texts of a content, and the refusal in it."""
        if isinstance(value, str):
            return [value], ""
        if not isinstance(value, list) or not value:
            self._fields[path] = _TEXT_ONLY.format(" or ".join(kinds))
            return [], ""
        texts: list[str] = []
        refusals: list[str] = []
        for number, part in enumerate(value):
            kind = part.get("type") if isinstance(part, dict) else None
            text = part.get("refusal" if kind == "refusal" else "text") if kind in kinds else None
            if not isinstance(text, str):
                self._fields[f"{path}[{number}]"] = (
                    f"Must be text, of type {' or '.join(kinds)}: images and files are not taken."
                )
                continue
            refuse_others(part, _OF_PART, f"{path}[{number}]", self._fields)
            (refusals if kind == "refusal" else texts).append(text)
        return texts, "".join(refusals)


def _simplest(texts: list[str]) -> Any:
    """Return a content as every provider takes it, if it can be: parts only where there are two."""
    if len(texts) < 2:
        return texts[0] if texts else None
    return [{"type": "text", "text": text} for text in texts]

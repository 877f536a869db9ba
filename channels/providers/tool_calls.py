"""Assembles the protocol's tool calls from the pieces that providers send.

Providers cut and mark the pieces differently. OpenAI sends an index with each piece, and the id and
name with the first. Others send no index or always 0, no id or an empty one, arguments as an
object, and members of their own that must be sent back with the next turn, such as Gemini's thought
signatures.
Protocol: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import orjson

from channels.errors import ProviderError
from channels.providers.texts import Text, paired, short_text, writable

# The members of a call and its function that are assembled here. Others are passed on unchanged.
_OF_CALL = frozenset({"index", "id", "type", "function"})
_OF_FUNCTION = frozenset({"name", "arguments"})


class ToolCalls:
    """Assembles calls piece by piece. Each call gets an id, and its position as its index."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []
        self._arguments: list[Text] = []
        self._by_index: dict[int, int] = {}  # the provider's index -> position of its latest call
        self._made_ids: set[int] = set()

    def take(self, pieces: Any, *, is_whole: bool = False) -> list[dict[str, Any]]:
        """Add pieces. Returns them in the form to send on. Raises ProviderError for other data.

        With `is_whole`, each piece is a whole call.
        """
        if isinstance(pieces, dict):
            pieces = [pieces]
        if not isinstance(pieces, list):
            raise ProviderError("garbage")
        return [self._take(piece, is_whole=is_whole) for piece in pieces]

    def finish(self) -> tuple[Sequence[dict[str, Any]], list[dict[str, Any]]]:
        """Return all calls, and last pieces for calls without arguments or with text held back.

        Raises ProviderError if a call has no name.
        """
        last = []
        for index, (call, arguments) in enumerate(zip(self._calls, self._arguments, strict=True)):
            if not call["function"]["name"]:
                raise ProviderError("garbage")
            rest = arguments.flush() or ("{}" if arguments.is_empty else "")
            if rest:
                arguments.keep(rest)
                last.append({"index": index, "function": {"arguments": rest}})
            call["function"]["arguments"] = arguments.whole()
        return tuple(self._calls), last

    def _take(self, piece: Any, *, is_whole: bool) -> dict[str, Any]:
        function = (piece.get("function") or {}) if isinstance(piece, dict) else None
        if not isinstance(function, dict):
            raise ProviderError("garbage")
        call_id, name = _text(piece.get("id")), _text(function.get("name"))
        place = len(self._calls)
        if not is_whole:
            place = self._find(_index(piece.get("index")), call_id, name)
        out: dict[str, Any] = {}
        if place == len(self._calls):
            is_free = call_id and all(call_id != call["id"] for call in self._calls)
            out["id"] = call_id if is_free else self._make_id(place)
            out["type"] = short_text(piece.get("type")) or "function"
            self._calls.append(out | {"function": {"name": "", "arguments": ""}})
            self._arguments.append(Text())
        call = self._calls[place]
        parts = _others(function, _OF_FUNCTION)
        call["function"] |= parts
        if out:
            parts["arguments"] = ""  # as the protocol begins a call
        if name and name != call["function"]["name"]:  # some send it with every piece
            call["function"]["name"] += name
            parts["name"] = name
        if arguments := self._arguments[place].take(_arguments(function.get("arguments"))):
            parts["arguments"] = arguments
        others = _others(piece, _OF_CALL)
        call |= others
        return {"index": place} | out | others | {"function": parts}

    def _find(self, index: int | None, call_id: str, name: str) -> int:
        """Return the position of a piece's call, or of a new call if the piece begins one."""
        last = max(0, len(self._calls) - 1)
        if index is None:
            place = last
        elif index in self._by_index:
            place = self._by_index[index]
        else:
            place = len(self._calls) if call_id or name else last
        if place < len(self._calls) and self._begins_another(place, call_id, name):
            # Calls may alternate under one index, or without one. Then only the id separates them.
            known = [at for at, call in enumerate(self._calls) if call_id and call["id"] == call_id]
            place = known[-1] if known and known[-1] != place else len(self._calls)
        if index is not None:
            self._by_index[index] = place
        return place

    def _begins_another(self, place: int, call_id: str, name: str) -> bool:
        call = self._calls[place]
        if call_id and call_id == call["id"]:
            return False
        if call_id and place not in self._made_ids:
            # Some providers invent a new id for every piece, but send the name only once.
            is_known = any(call_id == known["id"] for known in self._calls)
            return bool(name) or is_known or _is_whole(self._arguments[place].whole())
        if not name or not call["function"]["name"]:
            return False
        # A repeated name may belong to the same call, if its arguments are still incomplete.
        return name != call["function"]["name"] or _is_whole(self._arguments[place].whole())

    def _make_id(self, place: int) -> str:
        self._made_ids.add(place)
        return f"call_{uuid.uuid4().hex[:24]}"


def _others(value: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    others = {name: value[name] for name in value if name not in known}
    return {name: writable(other) for name, other in others.items() if other is not None}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ProviderError("garbage")
    return paired(value.replace("\x00", ""))


def _index(value: Any) -> int | None:
    """Return a piece's index. Some providers write it as a string or as a float."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:9])
    is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    return int(value) if is_whole else None


def _arguments(value: Any) -> str:
    """Return arguments as JSON text. Some providers send the object itself."""
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(writable(value)).decode()


def _is_whole(arguments: str) -> bool:
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True

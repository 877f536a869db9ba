"""The only parser of answers: whole or in pieces, they become one Completion.

A whole answer is read as a stream of one piece, so that a plain call, a stream and a replay of
either cannot differ. This module handles how providers deviate from the protocol.
Protocol: https://platform.openai.com/docs/api-reference/chat/object and .../chat-streaming
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from channels.errors import ProviderError
from channels.providers.base import (
    CONTENT_PARTS,
    REASONING_NAMES,
    SOURCES,
    ChatRequest,
    Completion,
    Delta,
    Usage,
)
from channels.providers.contents import is_of_a_kind, read_content, text_of_thoughts
from channels.providers.faults import FAILED_FINISHES, Sent, error_in, explains_silence
from channels.providers.texts import Text, short_text, writable
from channels.providers.thinking import ThoughtFilter, UnopenedThoughtFilter
from channels.providers.tokens import read_usage
from channels.providers.tool_calls import ToolCalls

# The members that a transparent request gets besides text, refusal and tool calls.
_PASSED_MEMBERS = (
    *REASONING_NAMES, "reasoning_details", "thinking_blocks", "annotations", "images",
    "executed_tools",
)  # fmt: skip
# Visitors see nothing of these, but they show that the model is working.
_SIGNS_OF_LIFE = (*REASONING_NAMES, "reasoning_details", "thinking", "tool_calls")
_SOURCES = frozenset(SOURCES)
# Finish reasons that mean nothing: the answer continues.
_NO_FINISHES = frozenset({"null", "none"})
# Members that mark a piece without choices as an error.
_ERROR_MEMBERS = (
    "detail", "message", "errors", "fault", "msg", "error_msg", "error_message", "error_code",
)  # fmt: skip


class AnswerReader:
    """Reads an answer piece by piece, passes on what may be sent, and returns the whole at its end.

    `begins_in_thought` says that the route's answers are known to begin within a thought.
    """

    def __init__(
        self,
        request: ChatRequest,
        sent: Sent,
        on_delta: Callable[[Delta], None] | None = None,
        *,
        begins_in_thought: bool = False,
    ) -> None:
        self._is_transparent = request.is_transparent
        self._sent = sent
        self._on_delta = on_delta
        self._text = Text()
        self._thoughts = ThoughtFilter() if request.hides_thinking else None
        # Only for a route that is known to begin within a thought is text held back until its end.
        self._unopened = UnopenedThoughtFilter() if self._thoughts and begins_in_thought else None
        self._refusal = Text()
        self._tool_calls = ToolCalls()
        self._members: dict[str, Any] = {}
        self._logprobs: dict[str, Any] = {}
        # Members next to the choices, which providers repeat with each piece.
        self._sources: dict[str, Any] = {}
        self._white_space = ""  # held until text follows, because alone it does not begin an answer
        self._is_unreadable = False  # whether there was content of an unknown kind
        self._usage: Usage | None = None
        self._response_model = ""
        self.finish_reason = ""
        self.heard_at = 0.0  # when the last piece came, by time.monotonic()
        # Whether the model has written anything yet, even thoughts that nobody sees.
        self.has_begun = False

    def read(self, piece: Any, *, is_whole: bool = False, is_error: bool = False) -> None:
        """Read a parsed piece of an answer, or all of it.

        Raises ProviderError if it is an error, which `is_error` may say, or not an answer at all.
        """
        if isinstance(piece, list) and len(piece) == 1:
            piece = piece[0]  # as Gemini sends its errors
        if not isinstance(piece, dict):
            raise ProviderError("garbage")
        choices = piece.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict):
            raise ProviderError("garbage")
        error = piece.get("error") or choice.get("error")
        if error or is_error or (not choices and _is_error(piece)):
            reason = "garbage" if is_whole else "error_event"
            raise error_in(error or piece, self._sent, otherwise=reason)
        message = _message_of(choice, self.has_begun, is_whole=is_whole)
        if choice.get("finish_reason") and (finish_reason := _finish_reason(choice)):
            self._read_finish(finish_reason, short_text(choice.get("native_finish_reason")))
        if is_whole:
            has_message = isinstance(choice.get("message") or choice.get("delta"), dict)
            if not (has_message or message) and not explains_silence(self.finish_reason):
                raise error_in(piece, self._sent, otherwise="garbage")
        self._read_beside(piece, choice)
        self.heard_at = time.monotonic()
        self._read_message(message, choice.get("logprobs"), is_whole=is_whole)

    def completion(self) -> Completion:
        """Return the whole answer. Raises ProviderError if it is empty without an explanation."""
        self._tell(*self._rest())
        calls, last_pieces = self._tool_calls.finish()
        if last_pieces:
            self._tell("", {"tool_calls": last_pieces})
        if self._is_transparent and self._sources:
            sources = self._sources.items()
            self._tell("", {name: self._take_member(name, told) for name, told in sources})
        has_parts = bool(self._members) and self._has_parts()
        text, began_in_thought = self._without_unopened_thought(self._text.whole())
        refusal = self._refusal.whole()
        is_empty = not (text.strip() or refusal or calls or has_parts)
        if is_empty and (self._is_unreadable or not explains_silence(self.finish_reason)):
            raise ProviderError("no_text")
        return Completion(
            text=text,
            finish_reason=self._told_finish_reason(has_calls=bool(calls)),
            usage=self._usage,
            response_model=self._response_model,
            tool_calls=calls,
            refusal=refusal,
            members={
                name: value.whole() if isinstance(value, Text) else value
                for name, value in self._members.items()
            },
            logprobs=self._logprobs or None,
            began_in_thought=began_in_thought,
        )

    def _has_parts(self) -> bool:
        """Return whether the answer has parts of a known kind besides its text, such as images."""
        others = (self._members.get(name) for name in (CONTENT_PARTS, "images"))
        return any(any(map(is_of_a_kind, part)) for part in others if isinstance(part, list))

    def _without_unopened_thought(self, text: str) -> tuple[str, bool | None]:
        """Return the text to keep, and whether it began within a thought.

        That is None if it is unknown: a text that was cut short may have been a thought.
        """
        if self._thoughts is None:
            return text, None
        unopened = self._unopened or UnopenedThoughtFilter()
        if not (self._unopened or self._thoughts.has_removed) and "<" in text:
            text = unopened.take(text) + unopened.flush()
        is_told = unopened.has_removed or (text and self.finish_reason == "stop")
        return text, unopened.has_removed if is_told else None

    def _told_finish_reason(self, *, has_calls: bool) -> str:
        """Return the finish reason in the terms of the current protocol."""
        if has_calls and self.finish_reason in ("", "function_call"):
            return "tool_calls"
        return self.finish_reason or "stop"

    # --- Pieces -----------------------------------------------------------------------------------

    def _read_finish(self, finish_reason: str, native: str) -> None:
        self.finish_reason = finish_reason
        if not FAILED_FINISHES.isdisjoint((finish_reason.lower(), native.lower())):
            raise ProviderError("error_event")

    def _read_message(self, message: dict[str, Any], logprobs: Any, *, is_whole: bool) -> None:
        content = message.get("content")
        if isinstance(content, str):
            text, thoughts, refusal, others = content, "", "", None
        else:
            text, thoughts, refusal, others = read_content(content)
            self._is_unreadable = self._is_unreadable or bool(others)
        if isinstance(message.get("refusal"), str):
            refusal += message["refusal"]
        if not self._is_transparent:
            if thoughts or (not self.has_begun and any(map(message.get, _SIGNS_OF_LIFE))):
                self.has_begun = True
            self._tell(self._take_text(text + refusal), {})
            return
        text = self._take_text(text)
        if thoughts:
            message = {"reasoning_content": thoughts} | message
        members = self._take_members(message, others)
        if refusal:
            members["refusal"] = self._refusal.take(refusal)
        if calls := message.get("tool_calls") or _legacy_calls(message):
            members["tool_calls"] = self._tool_calls.take(calls, is_whole=is_whole)
        members |= self._take_logprobs(logprobs)
        self._tell(text, members)

    def _take_logprobs(self, logprobs: Any) -> dict[str, Any]:
        if not isinstance(logprobs, dict):
            return {}
        logprobs = writable(logprobs)
        _extend(self._logprobs, logprobs)
        return {"logprobs": logprobs}

    def _take_text(self, text: str) -> str:
        """Add to the text. Returns the part that may be sent on now."""
        if not text:
            return ""
        text = self._text.clean(text)
        if self._thoughts is not None:
            self.has_begun = True
            text = self._thoughts.take(text)
            if self._unopened is not None and text:
                text = self._unopened.take(text)
        return self._keep_text(text)

    def _keep_text(self, text: str) -> str:
        if self._text.is_empty and not text.strip():
            self._white_space += text
            return ""
        if self._white_space:
            text, self._white_space = self._white_space + text, ""
        self._text.keep(text)
        return text

    def _rest(self) -> tuple[str, dict[str, Any]]:
        """Return the text and the other members that were held back until the end."""
        text = self._text.flush()
        if self._thoughts is not None:
            text = self._thoughts.take(text) + self._thoughts.flush()
            if self._unopened is not None:
                text = self._unopened.take(text) + self._unopened.flush()
        text = self._keep_text(text)
        if not self._is_transparent:  # all of it is text
            return text, {}
        if self._white_space:
            text = self._white_space
            self._text.keep(text)
        halves = {"refusal": self._refusal} | {
            name: kept for name, kept in self._members.items() if isinstance(kept, Text)
        }
        rest = {name: kept.flush() for name, kept in halves.items()}
        for name, half in rest.items():
            halves[name].keep(half)
        return text, rest

    def _take_members(self, message: dict[str, Any], others: list[Any] | None) -> dict[str, Any]:
        """Return a message's other members for transparent requests. `others` are content parts."""
        members: dict[str, Any] = {}
        for name in _PASSED_MEMBERS:
            if value := message.get(name):
                value = text_of_thoughts(value) or value if name in REASONING_NAMES else value
                members[name] = self._take_member(name, value)
        if others:
            members[CONTENT_PARTS] = self._take_member(CONTENT_PARTS, others)
        return members

    def _take_member(self, name: str, value: Any) -> Any:
        """Add to a member. Returns the part to send on, or None if there is nothing to send.

        A member keeps the type of its first piece. But once a piece is text, only its text is kept.
        """
        kept = self._members.get(name)
        if isinstance(value, str):
            if not isinstance(kept, Text):
                self._members[name] = kept = Text()
            return kept.take(value)
        if not isinstance(value, list | dict) or not isinstance(kept, type(value) | None):
            return None
        value = writable(value)
        if isinstance(kept, list):
            kept.extend(value)
        elif isinstance(kept, dict):
            kept.update(value)
        else:
            self._members[name] = value.copy()
        return value

    def _tell(self, text: str, members: dict[str, Any]) -> None:
        """Pass a piece on, unless it is empty: as plain text, or as members if it has any."""
        members = members and {name: value for name, value in members.items() if value}
        if not (text or members):
            return
        self.has_begun = True
        if self._on_delta is not None:
            said = {"content": text} | members if text else members
            self._on_delta(said if members else text)

    # --- Beside the message -----------------------------------------------------------------------

    def _read_beside(self, piece: dict[str, Any], choice: dict[str, Any]) -> None:
        model = piece.get("model")
        if model != self._response_model:  # most providers repeat it with every piece
            self._response_model = short_text(model) or self._response_model
        if not _SOURCES.isdisjoint(piece):
            self._sources |= {name: piece[name] for name in SOURCES if piece.get(name)}
        if piece.get("usage") or choice.get("usage") or piece.get("x_groq"):
            self._read_usage(piece, choice)

    def _read_usage(self, piece: dict[str, Any], choice: dict[str, Any]) -> None:
        """Keep the latest usage, because some providers send a running total with every piece.

        A usage without figures, or with only zeros, does not replace an earlier one.
        """
        for holder in (piece, choice, piece.get("x_groq")):
            usage = holder.get("usage") if isinstance(holder, dict) else None
            if isinstance(usage, dict) and any(value is not None for value in usage.values()):
                told = read_usage(usage)
                if told is None or told.input_tokens or told.output_tokens:
                    self._usage = told
                    return
                self._usage = self._usage or told


def _finish_reason(choice: dict[str, Any]) -> str:
    reason = short_text(choice.get("finish_reason")).strip()
    return "" if reason.lower() in _NO_FINISHES else reason


def _message_of(choice: dict[str, Any], has_begun: bool, *, is_whole: bool) -> dict[str, Any]:
    """Return what a choice says: its delta, or its message unless that repeats earlier pieces.

    Perplexity sends both: everything so far in the message, and an empty delta next to a whole
    message. Servers of the older completions protocol put the text in the choice itself.
    """
    delta, message = choice.get("delta"), choice.get("message")
    if isinstance(delta, dict) and delta and not (is_whole and isinstance(message, dict)):
        return delta
    if message and not has_begun:
        return message if isinstance(message, dict) else {"content": message}
    text = choice.get("text")
    return {"content": text} if text and isinstance(text, str) else {}


def _legacy_calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the single `function_call` of the older protocol as a list of calls."""
    function = message.get("function_call")
    return [{"function": function}] if isinstance(function, dict) and function else []


def _is_error(piece: dict[str, Any]) -> bool:
    """Return whether a piece without choices is an error, in any of the providers' forms."""
    if any(map(piece.get, _ERROR_MEMBERS)) or "errors" in piece:
        return True
    base = piece.get("base_resp")  # MiniMax
    status = base.get("status_code") if isinstance(base, dict) else piece.get("statusCode")
    return status not in (None, 0, 200) or piece.get("success") is False or "error" in (
        piece.get("object"), piece.get("status"), piece.get("type"),
    )  # fmt: skip


def _extend(kept: dict[str, Any], more: dict[str, Any]) -> None:
    """Append lists of log probabilities to the earlier ones."""
    for name, value in more.items():
        if isinstance(value, list) and isinstance(kept.get(name), list):
            kept[name] = kept[name] + value
        elif value is not None or name not in kept:
            kept[name] = value

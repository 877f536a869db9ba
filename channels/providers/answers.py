"""The one place that understands answers: whole or in pieces, they become one Completion.

A whole answer is read as a stream of one piece, so that a plain call, a stream and a replay of
either cannot differ. What providers do otherwise than the protocol is decided here.
Protocol: https://platform.openai.com/docs/api-reference/chat/object and .../chat-streaming
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channels.errors import ProviderError
from channels.providers.base import REASONING_NAMES, ChatRequest, Completion, Delta, Usage
from channels.providers.faults import Sent, error_in, explains_silence
from channels.providers.texts import Text, short_text, writable
from channels.providers.thinking import ThoughtFilter
from channels.providers.tool_calls import ToolCalls

# What a caller who sees all gets beside text, refusal and tool calls.
_PASSED_MEMBERS = (*REASONING_NAMES, "reasoning_details", "annotations")
# Parts of a content that are thoughts, and what holds their text.
_THOUGHT_PARTS = {"thinking": "thinking", "reasoning": "text", "reasoning_text": "text"}
# With these a provider gives up an answer under way. What came of it is none.
_FAILED_FINISHES = frozenset({"error", "abort", "insufficient_system_resource"})


class AnswerReader:
    """Takes an answer piece by piece, hands on what may go out, and knows the whole at its end."""

    def __init__(
        self, request: ChatRequest, sent: Sent, on_delta: Callable[[Delta], None] | None = None
    ) -> None:
        self._is_transparent = request.is_transparent
        self._sent = sent
        self._on_delta = on_delta
        self._text = Text()
        self._thoughts = ThoughtFilter() if request.hides_thinking else None
        self._refusal = Text()
        self._tool_calls = ToolCalls()
        self._members: dict[str, Text | list[Any]] = {}
        self._logprobs: dict[str, Any] = {}
        self._white_space = ""  # held until text follows: alone it is no beginning
        self._is_unreadable = False  # content of no kind that is known
        self._usage: Usage | None = None
        self._response_model = ""
        self.finish_reason = ""
        # Whether the model has said anything yet, be it thoughts that nobody gets to see.
        self.has_begun = False

    def read(self, piece: Any, *, is_whole: bool = False, is_error: bool = False) -> None:
        """Take a piece of an answer, or all of it, as it was parsed.

        Raises ProviderError where it is an error, as `is_error` says of it, or no answer at all.
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
        if error or is_error or ("choices" not in piece and _is_error(piece)):
            reason = "garbage" if is_whole else "error_event"
            raise error_in(error or piece, self._sent, otherwise=reason)
        if finish_reason := choice.get("finish_reason"):
            self._read_finish(finish_reason)
        if is_whole:
            has_message = isinstance(choice.get("message") or choice.get("delta"), dict)
            if not has_message and not explains_silence(self.finish_reason):
                raise ProviderError("garbage")
        model = piece.get("model")
        if model != self._response_model:  # most say the same with every piece
            self._response_model = short_text(model) or self._response_model
        self._read_usage(piece, choice)
        self._read_message(_message_of(choice, self.has_begun), choice.get("logprobs"))

    def completion(self) -> Completion:
        """Return the whole answer. Raises ProviderError where it has nothing, unexplained."""
        self._tell(*self._rest())
        calls, last_pieces = self._tool_calls.finish()
        if last_pieces:
            self._tell("", {"tool_calls": last_pieces})
        text, refusal = self._text.whole(), self._refusal.whole()
        is_empty = not (text.strip() or refusal or calls)
        if is_empty and (self._is_unreadable or not explains_silence(self.finish_reason)):
            raise ProviderError("no_text")
        return Completion(
            text=text,
            finish_reason=self.finish_reason or ("tool_calls" if calls else "stop"),
            usage=self._usage,
            response_model=self._response_model,
            tool_calls=calls,
            refusal=refusal,
            members={
                name: value.whole() if isinstance(value, Text) else value
                for name, value in self._members.items()
            },
            logprobs=self._logprobs or None,
        )

    # --- Pieces -----------------------------------------------------------------------------------

    def _read_finish(self, finish_reason: Any) -> None:
        self.finish_reason = short_text(finish_reason) or self.finish_reason
        if self.finish_reason.lower() in _FAILED_FINISHES:
            raise ProviderError("error_event")

    def _read_message(self, message: dict[str, Any], logprobs: Any) -> None:
        content, thoughts = self._split(message.get("content"))
        refusal = message.get("refusal")
        refusal = refusal if isinstance(refusal, str) else ""
        if not self._is_transparent:
            if thoughts or (not self.has_begun and any(map(message.get, REASONING_NAMES))):
                self.has_begun = True
            self._tell(self._take_text(content + refusal), {})
            return
        text = self._take_text(content)
        members: dict[str, Any] = {}
        if refusal:
            members["refusal"] = self._refusal.take(refusal)
        if thoughts:
            message = {"reasoning_content": thoughts} | message
        for name in _PASSED_MEMBERS:
            if value := message.get(name):
                members[name] = self._take_member(name, value)
        if calls := message.get("tool_calls"):
            members["tool_calls"] = self._tool_calls.take(calls)
        if isinstance(logprobs, dict):
            members["logprobs"] = writable(logprobs)
            _extend(self._logprobs, members["logprobs"])
        self._tell(text, members)

    def _split(self, content: Any) -> tuple[str, str]:
        """Return the text and the thoughts of a content: a text, or parts of several kinds."""
        if isinstance(content, str):
            return content, ""
        texts, thoughts = [], []
        for part in content if isinstance(content, list) else [content]:
            kind = part.get("type", "text") if isinstance(part, dict) else ""
            if isinstance(part, str):
                texts.append(part)
            elif kind in ("text", "output_text") and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind in _THOUGHT_PARTS:
                thoughts.append(_flat(part.get(_THOUGHT_PARTS[kind])))
            elif part is not None:
                self._is_unreadable = True
        return "".join(texts), "".join(thoughts)

    def _take_text(self, text: str) -> str:
        """Add to the text, and return what may go out of it now."""
        if not text:
            return ""
        text = self._text.clean(text)
        if self._thoughts is not None:
            self.has_begun = True
            text = self._thoughts.take(text)
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
        """Return the text, and the other members, that were held back until the end."""
        text = self._text.flush()
        if self._thoughts is not None:
            text = self._thoughts.take(text) + self._thoughts.flush()
        text = self._keep_text(text)
        if self._is_transparent and self._white_space:
            text = self._white_space
            self._text.keep(text)
        last = self._refusal.flush()
        self._refusal.keep(last)
        return text, {"refusal": last}

    def _take_member(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            kept = self._members.setdefault(name, Text())
            return kept.take(value) if isinstance(kept, Text) else None
        if isinstance(value, list):
            kept = self._members.setdefault(name, [])
            if isinstance(kept, list):
                value = writable(value)
                kept.extend(value)
                return value
        return None

    def _tell(self, text: str, members: dict[str, Any]) -> None:
        """Hand a piece on, if there is anything in it: the text alone, or all of its members."""
        members = members and {name: value for name, value in members.items() if value}
        if not (text or members):
            return
        self.has_begun = True
        if self._on_delta is not None:
            said = {"content": text} | members if text else members
            self._on_delta(said if members else text)

    # --- Usage ------------------------------------------------------------------------------------

    def _read_usage(self, piece: dict[str, Any], choice: dict[str, Any]) -> None:
        """Keep what is told of tokens; some tell it with every piece, counting on."""
        x_groq = piece.get("x_groq")
        if not (x_groq or piece.get("usage") or choice.get("usage")):
            return
        for holder in (piece, choice, x_groq):
            usage = holder.get("usage") if isinstance(holder, dict) else None
            if isinstance(usage, dict):
                self._usage = read_usage(usage)
                return


def _message_of(choice: dict[str, Any], has_begun: bool) -> dict[str, Any]:
    """Return what a choice says: its delta, or a message, unless that repeats what came before."""
    delta = choice.get("delta")
    if isinstance(delta, dict) and delta:
        return delta
    message = choice.get("message")
    return message if isinstance(message, dict) and not has_begun else {}


def _is_error(piece: dict[str, Any]) -> bool:
    return piece.get("object") == "error" or any(
        name in piece for name in ("detail", "message", "errors")
    )


def _extend(kept: dict[str, Any], more: dict[str, Any]) -> None:
    """Add lists of log probabilities to those that came before."""
    for name, value in more.items():
        if isinstance(value, list) and isinstance(kept.get(name), list):
            kept[name] = kept[name] + value
        elif value is not None or name not in kept:
            kept[name] = value


# --- Usage ----------------------------------------------------------------------------------------


def read_usage(usage: dict[str, Any]) -> Usage | None:
    """Return the tokens a provider tells of; None unless input and output can be read.

    Where the total is more than both, the rest is reasoning that was left out of the output.
    """
    input_tokens = _count(usage, "prompt_tokens", "input_tokens")
    output_tokens = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens")
    if input_tokens is None or (output_tokens is None and total is None):
        return None
    output_tokens = max(output_tokens or 0, (total or 0) - input_tokens)
    of_input = _details(usage, "prompt_tokens_details", "input_tokens_details")
    of_output = _details(usage, "completion_tokens_details", "output_tokens_details")
    cached = _count(of_input, "cached_tokens")
    if cached is None:
        cached = _count(usage, "prompt_cache_hit_tokens", "cache_read_input_tokens")
    reasoning = _count(of_output, "reasoning_tokens")
    if reasoning is None:
        reasoning = _count(usage, "reasoning_tokens")
    return Usage(
        input_tokens,
        output_tokens,
        cached_input_tokens=None if cached is None else min(cached, input_tokens),
        reasoning_tokens=None if reasoning is None else min(reasoning, output_tokens),
    )


def _details(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    found: Any = None
    for name in names:
        found = found or usage.get(name)
    return found if isinstance(found, dict) else {}


def _count(usage: dict[str, Any], *names: str) -> int | None:
    """Return the first of these that is there as a whole number, as a float too; None otherwise."""
    value: Any = None
    for name in names:
        value = usage.get(name) if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Beyond 2**53, and for what is no number, a float tells nothing.
    return int(value) if 0 <= value < 2**53 and value == int(value) else None


def _flat(value: Any) -> str:
    """Return the text of a thought: a string, or parts with one."""
    if isinstance(value, list):
        return "".join(map(_flat, value))
    if isinstance(value, dict):
        return _flat(value.get("text"))
    return value if isinstance(value, str) else ""

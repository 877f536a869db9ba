"""The OpenAI chat completions protocol, as Groq, OpenRouter, vLLM, Ollama and llama.cpp speak it.

Protocol: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import copy
from typing import Any

import orjson

from channels.errors import ProviderError
from channels.providers.answers import AnswerReader
from channels.providers.base import ChatRequest, Completion, OnDelta, Patience
from channels.providers.faults import CONTEXT_LENGTH_EXCEEDED, Sent, error_of, unanswered
from channels.providers.lessons import learn, without_named
from channels.providers.openai_stream import is_event_stream, read_stream, read_whole
from channels.providers.tokens import read_usage
from channels.providers.traits import PLAIN, Traits, adapted, arranged
from common import http

logger = logging.getLogger("gateway.channels")

MAX_ANSWER_BYTES = 1024 * 1024
MAX_STREAM_BYTES = 16 * 1024 * 1024


def chat_url(base_url: str) -> str:
    """Return the address for chats: the base plus /chat/completions, before any query.

    The base may include that path already.
    """
    return _below(base_url, "/chat/completions")


def models_url(base_url: str) -> str:
    """Return the address of the list of models, from the same base."""
    return _below(base_url, "/models")


def _below(base_url: str, path: str) -> str:
    base, mark, query = base_url.partition("?")
    base = base.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{base}{path}{mark}{query}"


class OpenAiCompatibleProvider:
    """A client with a provider's address and key, and its name for the model. It never changes."""

    def __init__(
        self,
        *,
        provider_name: str,
        base_url: str,
        read_key: Callable[[], str | None],
        provider_model: str,
        allow_private: bool,
        traits: Traits = PLAIN,
    ) -> None:
        self.provider_name = provider_name
        self.provider_model = provider_model
        self.base_url = base_url
        # The form of request that the route accepts.
        self.traits = traits
        self._url = chat_url(base_url)
        self._read_key = read_key
        self.allow_private = allow_private

    def with_traits(self, traits: Traits) -> OpenAiCompatibleProvider:
        """Return a client of the same route that sends requests in another form."""
        other = copy(self)
        other.traits = traits
        return other

    def headers(self, accept: str = "application/json") -> dict[str, str]:
        """Return the headers of a request, with the key."""
        headers = {"Content-Type": "application/json", "Accept": accept}
        api_key = self._read_key()
        if api_key and "api-version=" in self._url:  # Azure: its bearers are its own tokens
            headers["api-key"] = api_key
        elif api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        return headers

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        sent = self._payload(request)
        try:
            response = http.post(
                self._url,
                headers=self.headers("application/json"),
                body=sent.body,
                deadline=patience.first_token_by,
                max_bytes=MAX_ANSWER_BYTES,
                allow_private=self.allow_private,
            )
        except http.HttpError as error:
            raise unanswered(error) from error
        if not 200 <= response.status < 300:  # some providers send 201
            raise error_of(response.status, response.headers, response.body, sent)
        if plain := read_plain(response.body, request):
            return plain
        reader = self._reader(request, sent, None)
        read_whole(response.body, reader)
        return reader.completion()

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        has_options = self.traits.has_stream_options
        options = {"stream_options": {"include_usage": True}} if has_options else {}
        sent = self._payload(request, stream=True, **options)
        try:
            with http.post_for_lines(
                self._url,
                headers=self.headers("text/event-stream"),
                body=sent.body,
                deadline=patience.first_token_by,
                max_bytes=MAX_STREAM_BYTES,
                allow_private=self.allow_private,
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise error_of(answer.status, answer.headers, answer.read(), sent)
                reader = self._reader(request, sent, on_delta)
                try:
                    if is_event_stream(answer):
                        read_stream(answer, reader, patience)
                    else:  # a provider that does not stream: its whole answer is the only piece
                        read_whole(answer.read(), reader)
                    return reader.completion()
                except ProviderError as error:
                    error.has_begun = reader.has_begun
                    raise
        except http.HttpError as error:
            raise unanswered(error) from error

    def _reader(self, request: ChatRequest, sent: Sent, on_delta: OnDelta | None) -> AnswerReader:
        in_thought = self.traits.begins_in_thought
        return AnswerReader(request, sent, on_delta, begins_in_thought=in_thought)

    def _payload(self, request: ChatRequest, **options: Any) -> Sent:
        if self.traits is not PLAIN:
            request = adapted(request, self.traits)
        payload = orjson.dumps(
            {
                "model": self.provider_model,
                "messages": request.messages,
                request.limit_name: request.max_output_tokens,
                **request.options,
                **options,
            }
        )
        # orjson's bytes keep the buffer they were written in, which is ten times as large. The copy
        # avoids that, because it stays in memory for as long as the provider takes.
        return Sent(bytes(memoryview(payload)), self.provider_model, request.options.keys())


# --- In the form that the route accepts ---------------------------------------------------------

# The gateway retries only with a request that the refusal's lesson has changed, and never twice in
# the same form. There are nine lessons (lessons.py), and real providers teach one to three in one
# call. Or it retries without a setting of the channel, or with fewer turns of a long conversation:
# half of them, then each time a quarter of the rest, so that six tries go from 2,000 turns to none.
# It retries nothing else.
MOST_TRIES = 10
_FIRST_DIVISOR, _NEXT_DIVISOR = 2, 4
# The gateway shortens an answer no further than this if the provider does not say what would fit.
_SHORTEST_ANSWER_TOKENS = 64


def ask(
    client: OpenAiCompatibleProvider,
    request: ChatRequest,
    *,
    patience: Patience,
    on_delta: OnDelta | None = None,
) -> tuple[Completion, OpenAiCompatibleProvider]:
    """Return the answer to a request, in whatever form the provider accepts it, and its client.

    If a provider refuses the form of a request and not its content, this tries again at once. That
    costs only time, because providers charge for answers. The client that is returned has the form
    that was accepted, which channels/adaptation.py stores.

    Makes at most MOST_TRIES calls. Each call after the first needs a lesson that changes the
    request, a setting of the channel that can be left out, or a conversation that can be shortened.
    Raises the ProviderError of the last try, at once if it teaches nothing.
    """
    asked = request
    tried: set[Traits] = set()
    left = MOST_TRIES
    while True:
        left -= 1
        try:
            if on_delta is None:
                completion = client.complete(request, patience=patience)
            else:
                completion = client.stream(request, patience=patience, on_delta=on_delta)
        except ProviderError as error:
            error.places = [place for _, place in arranged(request.messages, client.traits)]
            if error.has_begun or not left or time.monotonic() >= patience.first_token_by:
                raise
            tried.add(client.traits)
            traits = learn(error, request, client.traits, tried=tried)
            if traits is not None:
                client = client.with_traits(traits)
                continue
            lesser = without_named(error, request) or _shorter(error, request, asked)
            if lesser is None:
                raise
            request = lesser
            kept = {"turns_left": request.turn_count, "options": sorted(request.options)}
            logger.info("provider.request.lessened", extra=kept)
        else:
            return completion, client


def _shorter(error: ProviderError, request: ChatRequest, asked: ChatRequest) -> ChatRequest | None:
    """Return the request with fewer turns, or then with less room, if its length may be at fault.

    `asked` is the request before anything was left out. Token counts are estimates until a provider
    reports its own, and every tokenizer differs. A refusal that the gateway does not recognize may
    be about the length too, so it is worth one try.
    """
    has_tried_shorter = (request.turn_count, request.max_output_tokens) != (
        asked.turn_count,
        asked.max_output_tokens,
    )
    if error.reason == CONTEXT_LENGTH_EXCEEDED:
        divisor = _NEXT_DIVISOR if has_tried_shorter else _FIRST_DIVISOR
        return request.with_fewer_turns(divisor) or request.with_less_room(
            _SHORTEST_ANSWER_TOKENS, divisor
        )
    is_unknown = error.status in (400, 422) and error.reason == f"status_{error.status}"
    return request.with_fewer_turns() if is_unknown and not has_tried_shorter else None


# --- Plain answers --------------------------------------------------------------------------------

# The most common answer, one that is only a text, is read without the work for all others.
_ANSWER_MEMBERS = frozenset({
    "id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier",
})  # fmt: skip
_CHOICE_MEMBERS = frozenset({"index", "message", "finish_reason", "logprobs"})
_FINISH_REASONS = ("stop", "length")


def read_plain(body: bytes, request: ChatRequest) -> Completion | None:
    """Return the completion of an answer that is only a text. None for every other answer.

    It is the same completion that AnswerReader returns (a test compares them for all recorded
    answers), but it costs 1 % less of a chat.
    """
    try:
        answer = orjson.loads(body)
        (choice,) = answer["choices"]
        message = choice["message"]
        # orjson refuses half characters, so only NUL needs cleaning.
        text = message["content"].replace("\x00", "")
        finish_reason = choice["finish_reason"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    is_plain = (
        isinstance(text, str)
        and text.strip()
        and finish_reason in _FINISH_REASONS
        and answer.keys() <= _ANSWER_MEMBERS
        and choice.keys() <= _CHOICE_MEMBERS
        and not choice.get("logprobs")
        and not any(value for name, value in message.items() if name not in ("role", "content"))
        and not (request.hides_thinking and "<" in text)
    )
    if not is_plain:
        return None
    usage, model = answer.get("usage"), answer.get("model")
    return Completion(
        text=text,
        finish_reason=finish_reason,
        usage=read_usage(usage) if isinstance(usage, dict) else None,
        response_model=model.replace("\x00", "")[:200] if isinstance(model, str) else "",
        began_in_thought=False if request.hides_thinking and finish_reason == "stop" else None,
    )

"""Classifies failed calls: one table decides the fault, for every shape of error.

Codes come before words, and words before the status. All tenants share a breaker, so an error that
names something in this request never counts against its route, because another tenant's request
does not contain it. An error that matches no row is doubtful, and the gateway finds out with its
own request (channels/probes.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from channels.errors import Fault, ProviderError, Said
from channels.providers.texts import paired, parse_json
from common.http import HttpError

CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class Shape:
    """One row of the table: codes, words, or else a status, that identify a fault.

    Codes and words are regular expressions. The row applies only to its `statuses`. Without a
    `reason`, the error's reason is the status.
    """

    fault: Fault
    reason: str = ""
    codes: str = ""
    words: str = ""
    statuses: Collection[int] = range(600)


# The first row that matches decides. Rows about the request come before rows about the account: a
# refusal for lack of credits that asks for fewer max_tokens is about the request.
SHAPES = (
    Shape(
        Fault.DECLINED,
        CONTENT_FILTER,
        codes=r"content_filter(ed)?|content_(policy_violation|blocked)|prohibited_content"
        r"|responsibleaipolicyviolation|moderation(_blocked|_error)?|invalid_prompt"
        r"|data_?inspection_?failed|guardrail_intervened|(input|output)?\w*sensitive_?content\w*"
        r"|1301",  # Zhipu
        words=r"content[ _-](management )?(policy|policies|filter)|\bmoderation\b|responsible ai"
        r"|safety (system|filter|polic|setting|check|guideline)|usage (polic|guideline)"
        r"|content exists risk|considered high risk"
        r"|\b(prompt|input|messages?|text|content|request)\b.{0,60}"
        r"\b(flagged|harmful|inappropriate|unsafe)"
        r"|(inappropriate|prohibited|harmful|unsafe|sensitive|disallowed) content"
        r"|sensitive information|\bnew_sensitive\b|敏感内容",
    ),
    Shape(
        Fault.REQUEST,
        CONTEXT_LENGTH_EXCEEDED,
        codes=r"context_length_exceeded|exceed_context_size_error|model_max_prompt_tokens_exceeded"
        r"|1261",  # Zhipu
        words=r"context[ _]?(length|size|window|limit)|max(imum)? context|too many (input )?tokens"
        r"|\b(prompt|input|messages?|conversation|sequence)\b.{0,40}(\b(is|are)|tokens?) too long"
        r"|tokens.{0,20} too large for model|inputs?\W+tokens \+ \W?max_new_tokens"
        r"|token count.{0,40}exceed|exceeds? the maximum (number of )?(\w+ )?tokens"
        r"|(prompt|input)( token)?s? (length|count).{0,40}exceed|longer than the (maximum|model)"
        r"|maximum (prompt|input) length|reduce the length|range of input length"
        r"|exceed(s|ed)? (the |max )?(model('s)? )?(token limit|max(imum)? (length|sequence length)"
        r"|message tokens|limit of \d+ tokens)|model max length exceeded"
        r"|\binputs?\b\W{1,2}must have less than \d+ tokens"
        r"|tokens?\b.{0,40}(cannot|must not|should not|which|sum) exceeds? the"
        r"|prompt tokens and max_tokens.{0,20}exceed|max_(seq_len|model_len|sequence_length)"
        r"|input tokens.{0,20}exceed|max(imum)? input characters|expected maxlength: \d+",
        # A rate limit on tokens has similar words.
        statuses=(*range(429), *range(430, 600)),
    ),
    Shape(
        Fault.REQUEST,
        "request_too_large",
        codes=r"request_too_large|string_above_max_length",
        words=r"(request|payload|entity|body|message) (is )?too large"
        r"|\b(text|string)\b.{0,40} too long"
        r"|max(imum)?[ _](\w+[ _])?tokens(?! per)|token limit exceeded",
    ),
    Shape(
        Fault.REQUEST,
        codes=r"tool_use_failed|invalid_function_parameters|json_validate_failed"
        r"|(unsupported|unknown|missing_required)_parameter|unsupported_value"
        r"|invalid_(type|value|image)|image_parse_error",
        words=r"\btools?\b|\btool_\w+|function[ _]call|images? (input|content|part)|image_url"
        r"|support.{0,20}\bimages?\b|not a multi-?modal|mmproj"
        r"|json[ _]schema|response_format|\bgrammar\b|structured output",
    ),
    Shape(
        Fault.REQUEST,
        words=r"\bparameters?\b|\bmessages?(\[|\.\d)|messages (must|should|array|list)|roles? must"
        r"|\brole\b.{0,20}\b(user|assistant|system)\b|(system|developer) (role|message|instruction)"
        r"|chat template|input validation|\bstream_options\b|\bcontent\b.{0,20}\bstr(ing)?\b"
        r"|messages? 参数|参数非法"
        r"|\b(temperature|top_p|top_k|min_p|logit_bias|logprobs|\w+_penalty)\b",
        statuses=range(400, 500),
    ),
    Shape(
        Fault.BROKEN,
        "model_retired",
        codes=r"model_(decommissioned|not_found|not_active|not_available|terms_required)"
        r"|invalid_model|deploymentnotfound|modelnotopen|model\.accessdenied|1211",  # Zhipu
        words=r"\bmodels?\b.{0,80}\b(not found|not exist|decommissioned|retired|deprecated|unknown"
        r"|no longer (available|supported|served)|not (a )?valid|has been removed|discontinued"
        r"|end of (its )?life|not deployed)"
        r"|model (identifier|id|name)\b.{0,20}\binvalid"
        r"|(unknown|invalid|incorrect|no such) model|not a valid model|no endpoints found for"
        r"|(not activated|n't have access to) the model|model use case details|on-demand throughput"
        r"|not supported by any provider",
        statuses=(400, 403, 404),
    ),
    Shape(
        Fault.BROKEN,
        codes=r"api_key_invalid|invalid_api_key|insufficient_(user_)?(quota|balance)"
        r"|exceeded_current_quota_error|billing_(hard_limit_reached|not_active)|arrearage"
        r"|access_terminated|account_deactivated|deactivated_workspace"
        r"|organization_(restricted|disabled)|unsupported_country_region_territory"
        r"|accountoverdueerror|allocationquota\.freetieronly|service_disabled|111[0-3]",  # Zhipu
        words=r"(api|subscription)[ _-]?key|credit balance|payment required|\bbilling\b"
        r"|(insufficient|more|all available|out of) (credits?|balance|funds|quota)"
        r"|(n't|not) have any credits|purchase credits"
        r"|exceeded your (current|monthly)|free tier.{0,40}exhausted|余额不足|欠费"
        r"|\b(account|organization|project|consumer|workspace)\b.{0,40}"
        r"(deactivated|disabled|suspended|locked|overdue|arrears|valid subscription)"
        r"|not been used in project|sufficient permissions"
        r"|(access|auth|oauth) token.{0,20}(invalid|expired|revoked)"
        r"|(country|region|territory|location)\b.{0,60}not (supported|available|allowed)"
        r"|not (supported|available|allowed) in (your|this) (country|region|territory|location)",
        statuses=(400, 402, 403, 404, 429),
    ),
    # If neither codes nor words decide.
    Shape(Fault.BROKEN, statuses=(401,)),
    Shape(Fault.REQUEST, statuses=(413,)),
    Shape(Fault.LIMITED, statuses=(429,)),
)
_NAMES_REQUEST = Shape(Fault.REQUEST)
# With these statuses the provider would refuse the same request again, whatever the reason.
_REFUSALS = (400, 413, 422)

# Reasons why a call got no answer at all (common/http.py). All others are doubtful.
_UNANSWERED = {
    "connection": Fault.UNREACHABLE,
    "tls": Fault.UNREACHABLE,
    "address": Fault.BROKEN,
    "private_address": Fault.BROKEN,
}

# Finish reasons, in lower case, with which an answer may be empty. No others explain that.
_FILTERED_FINISHES = frozenset({
    "content_filter", "content_filtered", "content-filter", "refusal", "safety", "image_safety",
    "prohibited_content", "blocklist", "recitation", "spii", "sensitive", "error_toxic",
    "guardrail_intervened",
})  # fmt: skip
_CUT_FINISHES = frozenset({
    "length", "max_tokens", "max_output_tokens", "max_new_tokens", "model_length", "error_limit",
    "model_context_window_exceeded",
})  # fmt: skip
# With the last three, Gemini drops a malformed call of the model.
_STOPPED_FINISHES = frozenset({
    "stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed", "tool_call",
    "tool_calls", "tool_use", "function_call", "malformed_function_call", "unexpected_tool_call",
    "function_call_filter",
})  # fmt: skip
# With these a provider aborts an answer. The part that arrived does not count as one.
FAILED_FINISHES = frozenset({
    "error", "abort", "aborted", "cancelled", "canceled", "user_cancel", "failed", "timeout",
    "network_error", "server_error", "insufficient_system_resource",
})  # fmt: skip


def is_filtered(finish_reason: str) -> bool:
    """Return whether a finish reason says that a filter removed the answer, or its end."""
    return _kind_of(finish_reason) in _FILTERED_FINISHES


def is_cut(finish_reason: str) -> bool:
    """Return whether a finish reason says that the answer reached its length limit."""
    return _kind_of(finish_reason) in _CUT_FINISHES


def explains_silence(finish_reason: str) -> bool:
    """Return whether a finish reason makes an empty answer a valid one."""
    is_stopped = _kind_of(finish_reason) in _STOPPED_FINISHES
    return is_stopped or is_filtered(finish_reason) or is_cut(finish_reason)


def _kind_of(finish_reason: str) -> str:
    """Return a finish reason without a suffix such as `function_call_filter: MALFORMED…`."""
    return finish_reason.lower().partition(":")[0].strip()


@dataclass(frozen=True, slots=True)
class Sent:
    """A sent request: its body, the provider's name for the model, and the caller's options."""

    body: bytes
    model: str
    options: Collection[str] = ()


def unanswered(error: HttpError) -> ProviderError:
    """Return the error for a call that got no complete answer."""
    return ProviderError(error.reason, fault=_UNANSWERED.get(error.reason, Fault.DOUBTFUL))


def error_of(status: int, headers: Mapping[str, str], body: bytes, sent: Sent) -> ProviderError:
    """Return the error for an answer that is not a success. Header names are lower case."""
    try:
        answer = parse_json(body)
    except ValueError:
        answer = None  # an HTML page, say: its words may be about anything
    said = _read(answer, sent)
    shape = _find_shape(status, said, sent)
    fault = shape.fault if shape else Fault.DOUBTFUL
    return ProviderError(
        (shape and shape.reason) or f"status_{status}",
        fault=fault,
        retry_after_seconds=_retry_after(headers) if fault is Fault.LIMITED else 0,
        is_refusal=fault is Fault.REQUEST or (shape is None and status in _REFUSALS),
        status=status,
        words=said.words,
        said=said_in(answer, sent),
    )


def error_in(error: Any, sent: Sent, *, otherwise: str) -> ProviderError:
    """Return the error that a 200, or an event of a stream, carries instead of an answer.

    `otherwise` is its reason if no row matches, or if neither the row nor the error's status has
    one.
    """
    code = error.get("code") if isinstance(error, dict) else None
    status = int(code) if code is not None and re.fullmatch(r"[45]\d\d", str(code)) else 0
    said = _read(error, sent)
    shape = _find_shape(status, said, sent)
    if shape is None:
        return ProviderError(otherwise, status=status, words=said.words)
    return ProviderError(
        shape.reason or (f"status_{status}" if status else otherwise),
        fault=shape.fault,
        is_refusal=shape.fault is Fault.REQUEST,
        said=said_in(error, sent),
        status=status,
        words=said.words,
    )


# --- Reading an error -----------------------------------------------------------------------------

_CODE_MEMBERS = frozenset({"code", "type", "status", "reason", "error_type", "error_code"})
_NAME_MEMBERS = frozenset({"param", "loc", "field"})
# Members in which providers quote the request, or what the model made of it.
_QUOTING_MEMBERS = frozenset({"input", "flagged_input", "failed_generation", "ctx"})
# Names that do not point to the request: the body as a whole, and the model, which the route sets.
_NO_NAMES = frozenset({"", "body", "model"})
# Options whose names also occur in messages about keys and accounts: "User not found."
_EVERYDAY_WORDS = frozenset({
    "user", "store", "metadata", "reasoning", "thinking", "modalities", "verbosity", "n",
})  # fmt: skip
_DEEPEST = 8
_MOST_WORDS = 4_000
_QUOTATION = re.compile(r"""`[^`]*`|"[^"]*"|(?<!\w)'[^']*'(?!\w)""")


@dataclass(slots=True)
class _Said:
    """The codes and words of an error body, and whether it names a member of the request."""

    codes: list[str] = field(default_factory=list)
    words: str = ""
    names_request: bool = False


def _read(answer: Any, sent: Sent) -> _Said:
    """Collect codes and words wherever they are: at the top, under `error`, in a list."""
    said = _Said()
    texts: list[str] = []
    _collect(answer, said, texts, depth=0)
    # A model's name may contain “tool”, and a link may lead to a billing page. Such words are not
    # about the request or the account.
    model = rf"(?<![\w-]){re.escape(sent.model)}(?![\w-])"
    said.words = re.sub(rf"{model}|https?://\S+", " ", "\n".join(texts)[:_MOST_WORDS])
    return said


def _collect(value: Any, said: _Said, texts: list[str], *, depth: int) -> None:
    if isinstance(value, str):
        value = _upstream(value)
        if isinstance(value, str):
            texts.append(value)
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for part in value:
            _collect(part, said, texts, depth=depth + 1)
    elif isinstance(value, dict):
        said.codes += [str(value[name]) for name in _CODE_MEMBERS & value.keys()]
        said.names_request |= any(map(_is_name, map(value.get, _NAME_MEMBERS)))
        if type(value.get("n_ctx")) is int:  # llama.cpp's window
            texts.append(f"n_ctx {value['n_ctx']}")
        for part in (value[name] for name in value if name not in _QUOTING_MEMBERS):
            _collect(part, said, texts, depth=depth + 1)


def _upstream(text: str) -> Any:
    """Return the error of an upstream provider that is passed on as JSON, or any other text.

    Its JSON is not read as a text, because some members quote what the model wrote.
    """
    if text.startswith("{"):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(text)
    return text


def _is_name(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return any(isinstance(name, str) and name not in _NO_NAMES for name in names)


def _find_shape(status: int, said: _Said, sent: Sent) -> Shape | None:
    shapes = [shape for shape in SHAPES if status in shape.statuses]
    for shape in shapes:
        if shape.codes and any(re.fullmatch(shape.codes, c, re.IGNORECASE) for c in said.codes):
            return shape
    for shape in shapes:
        if shape.fault is not Fault.BROKEN and _find(shape.words, said.words):
            return shape
    if said.names_request or any(_find(_option(name), said.words) for name in sent.options):
        return _NAMES_REQUEST
    # Only the provider's own words may open a breaker at once. Otherwise a tenant could make an
    # error that quotes the request say that the key is wrong.
    own_words = _QUOTATION.sub(" ", said.words)
    asked = sent.body.decode(errors="replace").lower()
    for shape in shapes:
        found = _find(shape.words, own_words)
        if shape.fault is Fault.BROKEN and found and found.lower() not in asked:
            return shape
    return next((shape for shape in shapes if not shape.codes and not shape.words), None)


def _option(name: str) -> str:
    """Return an expression for an option's name. Everyday words match only in quotes."""
    expression = re.escape(name)
    return rf"[`'\"]{expression}[`'\"]" if name in _EVERYDAY_WORDS else rf"\b{expression}\b"


def _find(expression: str, text: str) -> str:
    """Return the text that a regular expression finds. An empty expression finds nothing."""
    found = re.search(expression, text, re.IGNORECASE) if expression else None
    return found.group() if found else ""


# --- Quoting an error -----------------------------------------------------------------------------

# The members that hold an error in an answer, and the message in an error.
_ERROR_MEMBERS = ("error", "errors", "detail", "message")
_MESSAGE_MEMBERS = ("message", "msg", "error", "detail")
_PARAM_MEMBERS = ("param", "loc", "field")


def said_in(answer: Any, sent: Sent) -> Said | None:
    """Return code, param and message of an error, or None if it has neither message nor code.

    They may be at the top, under `error`, `errors`, `detail` or `message`, in a list (only its
    first element counts), or in the JSON that a provider passes on from an upstream provider.
    """
    said = _said(answer, depth=0)
    return replace(said, model=sent.model) if said.message or said.code else None


def _said(value: Any, *, depth: int) -> Said:
    if isinstance(value, str):
        return Said(_clean(value))
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict) or depth > _DEEPEST:
        return Said()
    for name in _ERROR_MEMBERS:
        if isinstance(value.get(name), dict | list) and value[name]:
            return _said(value[name], depth=depth + 1)
    metadata = value.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw.startswith(("{", "[")):
        with suppress(orjson.JSONDecodeError):
            inner = _said(orjson.loads(raw), depth=depth + 1)
            if inner.message:
                return inner
    texts = (value.get(name) for name in _MESSAGE_MEMBERS)
    message = next((text for text in texts if text and isinstance(text, str)), "")
    params = map(_path, map(value.get, _PARAM_MEMBERS))
    return Said(_clean(message), _code(value.get("code")), next(filter(None, params), ""))


def _code(value: Any) -> str:
    """Return a code. A status does not count, although some providers put it there."""
    is_status = type(value) is int or (isinstance(value, str) and value.isdigit())
    return _clean(value) if isinstance(value, str) and not is_status else ""


def _path(value: Any) -> str:
    """Return the path of a member, such as messages[3].content, from a name or a list."""
    if isinstance(value, list):
        parts = value[1:] if value[:1] == ["body"] else value
        value = "".join(f"[{part}]" if type(part) is int else f".{part}" for part in parts)
    return _clean(value).removeprefix("body").lstrip(".") if isinstance(value, str) else ""


def _clean(text: str) -> str:
    return paired(text.replace("\x00", ""))[:_MOST_WORDS]


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return how many seconds a provider asks the gateway to wait, or 0 if it does not say.

    Retry-After holds seconds or a date (RFC 9110, 10.2.3). OpenAI and Azure also send milliseconds,
    and OpenRouter sends the moment as a Unix time in milliseconds.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return _bounded(milliseconds / 1000)
    said = headers.get("retry-after")
    if (seconds := _number(said)) is not None:
        return _bounded(seconds)
    if said:
        with suppress(ValueError, OverflowError):
            return _bounded(parsedate_to_datetime(said).timestamp() - time.time())
    moment = _number(headers.get("x-ratelimit-reset")) or 0
    if moment > _FIRST_MOMENT * 1000:
        moment /= 1000
    return _bounded(moment - time.time() if moment > _FIRST_MOMENT else moment)


# A larger number is a Unix time and not a number of seconds.
_FIRST_MOMENT = 10**9


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _bounded(seconds: float) -> float:
    return max(0.0, min(seconds, 3600.0))

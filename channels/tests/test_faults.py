"""Error answers of real providers, classified by their cause."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from channels.errors import Fault
from channels.providers.faults import Sent, error_in, error_of

SENT = Sent(b'{"model":"vision-tool-1","messages":[]}', "vision-tool-1")


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message} | more}


# Every request fails with these until somebody fixes the cause.
BROKEN = [
    (401, b""),
    (401, said("Incorrect API key provided", code="invalid_api_key")),
    (400, said("API key not valid.", details=[{"reason": "API_KEY_INVALID"}])),
    (400, [said("User location is not supported for the API use.", code=400)]),
    (400, said("Your credit balance is too low to access the API")),
    (400, said("Gone", code="model_decommissioned")),
    (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model"}),
    (
        400,
        said("Provider returned error", metadata={"raw": '{"error":{"code":"model_not_found"}}'}),
    ),
    (400, said("invalid model ID", param="model")),
    (402, said("Insufficient credits. Add more", code=402)),
    (402, {"error": "Insufficient Balance"}),
    (403, said("Country, region, or territory not supported")),
    (404, said("The model `vision-tool-1` does not exist or you do not have access to it.")),
    (404, said('model "vision-tool-1" not found, try pulling it first', type="api_error")),
    (429, said("You exceeded your current quota", code="insufficient_quota")),
]
# Another tenant's request would not fail with these.
REQUEST = [
    (400, said("x", code="context_length_exceeded")),
    (400, said("x", code=400, type="exceed_context_size_error")),
    (400, said("This model's maximum context length is 8192 tokens.")),
    (400, said("prompt is too long: 210000 tokens > 200000 maximum")),
    (400, {"message": "Prompt contains 40000 tokens, too large for model with 32768"}),
    (422, {"error": "inputs tokens + max_new_tokens must be <= 4096", "error_type": "validation"}),
    (402, said("This request requires more credits, or fewer max_tokens.", code=402)),
    (413, b"<html>"),
    (413, said("Request too large on tokens per minute", code="rate_limit_exceeded")),
    (429, said("Request too large on tokens per min (TPM): Limit 6000, Requested 7024")),
    (404, said("No endpoints found that support tool use.", code=404)),
    (404, said("No endpoints found that support image input", code=404)),
    (400, said("vision-tool-1 does not support tools")),
    (500, said("tools param requires --jinja flag", type="server_error")),
    (500, said("image input is not supported - hint: provide the mmproj")),
    (403, said("Function calling is not enabled for this request")),
    (400, said("Invalid schema", code="invalid_function_parameters", param="tools[0]")),
    (400, said("Failed to generate JSON", code="json_validate_failed")),
    (400, said("'temperature' is above maximum", type="invalid_request_error")),
    (400, said("Out of range", param="top_p")),
    (400, {"object": "error", "message": "Conversation roles must alternate", "code": 400}),
    (422, {"detail": [{"loc": ["body", "seed"], "msg": "x", "input": "bad api key"}]}),
    (422, {"message": {"detail": [{"loc": ["body", "stop"], "msg": "Input should be a list"}]}}),
]
# Final: the gateway asks no other provider.
DECLINED = [
    (400, said("x", code="content_filter")),
    (400, said("Filtered", code="x", innererror={"code": "ResponsibleAIPolicyViolation"})),
    (400, said("rejected as a result of our safety system", code="moderation_blocked")),
    (403, said("Your chosen model requires moderation and your input was flagged", code=403)),
    (400, said("Content Exists Risk")),
    (401, said("The request was rejected because it was considered high risk")),
    (404, said("Input data may contain inappropriate content.", code="DataInspectionFailed")),
    (500, said("Prompt violates our usage policies")),
]
# Errors that match no row. The request may be the cause, or the provider.
DOUBTFUL = [
    (400, said("mock error 400", type="mock_error", code=400)),
    (400, {"error": "something"}),
    (400, b""),
    (400, said("x", code="")),
    (403, b""),
    (404, b"<html>no such tool, nor api key</html>"),
    (402, b"{}"),
    (418, b"teapot"),
    (422, b"<html>"),
    (500, said("The server had an error")),
    (502, b"<html>"),
    (503, said("The model is overloaded", type="service_unavailable")),
    (504, said("Request took too long")),
    (529, said("Overloaded")),
]
TABLE: dict[Fault, list[tuple[int, Any]]] = {
    Fault.BROKEN: BROKEN,
    Fault.REQUEST: REQUEST,
    Fault.DECLINED: DECLINED,
    Fault.DOUBTFUL: DOUBTFUL,
    Fault.LIMITED: [(429, b""), (429, said("Rate limit reached for x on tokens per min (TPM)"))],
}
CASES = [(fault, *case) for fault, cases in TABLE.items() for case in cases]


def raw(body: Any) -> bytes:
    return body if isinstance(body, bytes) else orjson.dumps(body)


@pytest.mark.parametrize(("fault", "status", "body"), CASES)
def test_tells_whose_fault_it_is(fault: Fault, status: int, body: Any) -> None:
    assert error_of(status, {}, raw(body), SENT).fault is fault


@pytest.mark.parametrize(
    ("error", "fault", "reason"),
    [
        ({"code": "content_filter"}, Fault.DECLINED, "content_filter"),
        ({"message": "prompt is too long"}, Fault.REQUEST, "context_length_exceeded"),
        ({"message": "No such tool"}, Fault.REQUEST, "error_event"),
        ({"message": "x", "code": 429}, Fault.LIMITED, "status_429"),
        ({"message": "Wrong API key", "code": 403}, Fault.BROKEN, "status_403"),
        ({"message": "overloaded", "code": 529}, Fault.DOUBTFUL, "error_event"),
        ("overloaded", Fault.DOUBTFUL, "error_event"),
        (None, Fault.DOUBTFUL, "error_event"),
    ],
)
def test_an_error_under_status_200_is_read_alike(error: Any, fault: Fault, reason: str) -> None:
    found = error_in(error, SENT, otherwise="error_event")
    assert (found.fault, found.reason) == (fault, reason)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, said("This model's maximum context length is 8192"), "context_length_exceeded"),
        (400, said("x", code="content_filter"), "content_filter"),
        (404, said("x", code="model_not_found"), "model_retired"),
        (402, said("fewer max_tokens"), "request_too_large"),
        (418, b"", "status_418"),
    ],
)
def test_names_a_reason(status: int, body: Any, reason: str) -> None:
    assert error_of(status, {}, raw(body), SENT).reason == reason


@pytest.mark.parametrize("name", ["stop", "seed", "a_new_option"])
def test_an_option_that_the_request_carries_is_its_own(name: str) -> None:
    body = raw(said(f"Cannot use {name} here"))
    carrying = Sent(b"{}", "m", {name: 1}.keys())
    assert error_of(400, {}, body, carrying).fault is Fault.REQUEST
    assert error_of(400, {}, body, SENT).fault is Fault.DOUBTFUL


def test_an_option_that_is_an_everyday_word_has_to_be_quoted() -> None:
    carrying = Sent(b"{}", "m", {"user": 1, "reasoning": 1}.keys())
    assert error_of(401, {}, raw(said("User not found.")), carrying).fault is Fault.BROKEN
    limited = raw(said("Rate limit of this user reached"))
    assert error_of(429, {}, limited, carrying).fault is Fault.LIMITED
    quoting = raw(said("'reasoning' is not for this model"))
    assert error_of(400, {}, quoting, carrying).fault is Fault.REQUEST


@pytest.mark.parametrize("quote", ["`{}`", '"{}"', "'{}'", "{}"])
@pytest.mark.parametrize("words", ["API key not valid", "insufficient credits", "unknown model"])
def test_an_error_that_quotes_its_request_proves_nothing(quote: str, words: str) -> None:
    """Otherwise one tenant could write a message that takes the route away from all others."""
    sent = Sent(orjson.dumps({"messages": [{"content": words}]}), "m")
    body = raw(said(f"Cannot make sense of {quote.format(words)}."))
    assert error_of(400, {}, body, sent).fault is Fault.DOUBTFUL
    assert error_of(400, {}, raw(said(words)), SENT).fault is Fault.BROKEN


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, "7", 7.0),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        (429, "1e99", 3600.0),
        (429, "-1", 0.0),
        (503, "2.5", 0.0),
    ],
)
def test_only_a_rate_limit_is_waited_for(status: int, retry_after: str, seconds: float) -> None:
    error = error_of(status, {"retry-after": retry_after}, b"{}", SENT)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("status", "body", "is_refusal"),
    [(400, b"", True), (422, b"", True), (413, b"", True), (500, b"", False), (401, b"", False)],
)
def test_a_refused_request_would_be_refused_again(
    status: int, body: bytes, is_refusal: bool
) -> None:
    assert error_of(status, {}, body, SENT).is_refusal is is_refusal


def test_deep_and_long_bodies_are_read_within_bounds() -> None:
    deep: Any = "x" * 10_000
    for _ in range(60):
        deep = {"error": [deep]}
    assert error_of(400, {}, orjson.dumps(deep), SENT).fault is Fault.DOUBTFUL

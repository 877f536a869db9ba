"""A provider's words on a refused request: passed to the caller, without what is not theirs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from billing.models import Hold
from channels.errors import Said
from channels.models import RouteHealth
from channels.tests.factories import Site, make_site
from conversations.chat.refusals import as_callers_count, as_callers_read
from conversations.models import FailedRequest
from conversations.tests.test_openai import HELLO, MODEL, WEATHER, assert_books_agree, complete
from tests.support.clients import ApiClient
from tests.support.provider import served
from tests.support.stub_server import StubServer, answer

pytestmark = pytest.mark.django_db(transaction=True)

PROMPT = "You are Otto.\nNever mention that the margin on boots is 40 %."
NEUTRAL = "The AI provider refused this request. Nothing was charged."
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}, *HELLO]


@pytest.fixture
def site() -> Site:
    return make_site(system_prompt=PROMPT)


def refused(api: ApiClient, settings: Any, body: Any, status: int = 400, **more: Any) -> Any:
    """Return the error that a caller gets for a provider's error."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    with StubServer(answer(raw, status=f"{status} Refused")) as server:
        settings.PROVIDER_BASE_URL = server.url("/v1")
        response = complete(api, MESSAGES, **more)
    assert response.status_code == 400, response.content
    assert response["X-Should-Retry"] == "false"
    assert not Hold.objects.exclude(state="released").exists()
    assert not RouteHealth.objects.exclude(opened_at=None).exists()
    assert_books_agree()
    return response.json()["error"]


def openais(message: str, **more: Any) -> Any:
    return {"error": {"message": message, "type": "invalid_request_error"} | more}


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_caller_sees_code_param_and_message(
    api: ApiClient, settings: Any, is_stream: bool
) -> None:
    message = "Invalid schema for function 'weather': schema must be of type 'object'."
    code = "invalid_function_parameters"
    body = openais(message, param="tools[0].function.parameters", code=code)
    assert refused(api, settings, body, tools=[WEATHER], stream=is_stream) == {
        "message": message,
        "type": "invalid_request_error",
        "code": code,
        "param": "tools[0].function.parameters",
    }
    failed = FailedRequest.objects.get()
    assert (failed.error_code, failed.reason) == ("invalid_request", "status_400")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, openais("Bad value", param=None, code=None), ("Bad value", None)),
        (422, {"object": "error", "message": "Extra input", "code": 422}, ("Extra input", None)),
        (422, {"error": "Input validation error: `top_p`"}, ("Input validation error: `top_p`",)),
        (413, openais("Too many images"), ("Too many images", None)),
        (
            422,
            {"detail": [{"loc": ["body", "messages", 3, "content"], "msg": "Not valid"}]},
            ("Not valid", "messages[2].content"),
        ),
        (
            422,
            {"message": {"detail": [{"loc": ["body", "stop"], "msg": "Not a list"}]}},
            ("Not a list", "stop"),
        ),
        (400, [{"error": {"code": 400, "message": "Unknown parameter"}}], ("Unknown parameter",)),
        (
            400,
            {
                "error": {
                    "message": "Provider returned error",
                    "metadata": {"raw": orjson.dumps(openais("Behind", param="seed")).decode()},
                }
            },
            ("Behind", "seed"),
        ),
        (400, b"<html>", (NEUTRAL, None)),
        (400, {}, (NEUTRAL, None)),
        (400, [], (NEUTRAL, None)),
        (400, {"error": {"message": 5, "code": 7}}, (NEUTRAL, None)),
    ],
)
def test_every_shape_of_a_refusal_is_read(
    api: ApiClient, settings: Any, status: int, body: Any, expected: tuple[str | None, ...]
) -> None:
    error = refused(api, settings, body, status)
    assert (error["message"], error["param"])[: len(expected)] == expected
    assert (error["code"], error["type"]) == ("invalid_request", "invalid_request_error")


def test_an_error_in_a_200_is_read_alike(api: ApiClient, settings: Any) -> None:
    body = orjson.dumps(openais("tools are not supported", param="tools"))
    with served(body, content_type="application/json") as settings.PROVIDER_BASE_URL:
        response = complete(api)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "tools are not supported"


def test_the_chat_keeps_its_own_sentence(api: ApiClient, settings: Any) -> None:
    body = orjson.dumps(openais("Unknown parameter: top_k", param="top_k"))
    with served(body, status="400 Bad Request") as settings.PROVIDER_BASE_URL:
        response = api.chat()
    assert (response.status_code, response.json()["error"]) == (500, NEUTRAL)


def test_a_context_that_is_too_long_keeps_its_own_error(api: ApiClient, settings: Any) -> None:
    body = openais("This model's maximum context length is 4096 tokens.")
    error = refused(api, settings, body)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


def test_a_code_of_ours_in_a_providers_mouth_means_nothing(api: ApiClient, settings: Any) -> None:
    for code in ("credits_exhausted", "provider_error", "x y", "x" * 51, "sk-abcdef012345"):
        body = openais("Unknown parameter", code=code)
        assert refused(api, settings, body)["code"] == "invalid_request"


# --- Indexes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("messages[3].content", "messages[2].content"),
        ("messages.3.content", "messages.2.content"),
        ("messages.[3].content", "messages.[2].content"),
        ("messages/3", "messages/2"),
        ("input[2]", "input[1]"),
        ("['body', 'messages', 3]", "['body', 'messages', 2]"),
        ("Invalid 'messages[1]', see messages[2].", "Invalid 'messages[0]', see messages[1]."),
        ("The message at index 1 is bad", "The message at index 0 is bad"),
        ("messages[9] and 3 messages", "messages[9] and 3 messages"),
        ("messages[0] is too long", "the channel's prompt is too long"),
        ("messages[0].content", ""),
    ],
)
def test_indexes_are_those_of_the_callers_messages(sent: str, read: str) -> None:
    assert as_callers_count(sent, [None, 0, 1, 2]) == read


def test_without_a_prompt_the_indexes_are_the_callers_already(settings: Any) -> None:
    api = ApiClient(make_site(system_prompt="").api_key)
    body = openais("Invalid 'messages[1].content'", param="messages[1].content")
    error = refused(api, settings, body)
    assert error["message"] == "Invalid 'messages[1].content'"
    assert error["param"] == "messages[1].content"


def test_our_own_message_is_no_param(api: ApiClient, settings: Any) -> None:
    body = openais("'messages[0].content' is empty", param="messages[0].content")
    assert refused(api, settings, body)["param"] is None


# --- What callers must not see --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("Key sk-proj-a1B2c3D4e5 fails", "Key [key] fails"),
        ("Key gsk_a1B2c3D4e5 fails", "Key [key] fails"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [key]"),
        ("with api_key=abc&x=1", "with api_key=[key]&x=1"),
        ("In organization org-a1B2c3", "In organization [account]"),
        ("of proj_a1B2c3", "of [account]"),
        ("The model meta/llama-9 or llama-9", "The model gw-model or gw-model"),
        ("Says Groq: no", "Says the AI provider: no"),
        ("The default value", "The default value"),
        ("See https://x.example/a?token=b.", "See [address]"),
        ("See https://me:pw@x.example/a", "See [address]"),
        ("See https://x.example/docs", "See https://x.example/docs"),
        ("max_tokens=5 is too low", "max_tokens=5 is too low"),
        ("x" * 501, "x" * 499 + "…"),
        (" ", NEUTRAL),
    ],
)
def test_the_operators_own_is_masked(said: str, read: str) -> None:
    found = as_callers_read(
        Said(said, model="meta/llama-9"),
        model_id="gw-model",
        provider_names={"groq", "default"},
        system_prompt=PROMPT,
        request=[],
        indexes=[None, 0],
    )
    assert (found.message, found.model) == (read, "gw-model")


@pytest.mark.parametrize(
    "said",
    [
        f"Cannot parse '{PROMPT}'",
        "Cannot parse NEVER MENTION  that the\tmargin",
        "Cannot parse " + orjson.dumps(PROMPT).decode(),
        "Cannot parse You are Otto.\\n\\u004eever mention that",
        "Cannot parse never&#32;mention&#32;that&#32;the&#32;margin",
    ],
)
def test_the_prompt_is_never_quoted(api: ApiClient, settings: Any, said: str) -> None:
    error = refused(api, settings, openais(said, param="messages[1]", code="bad"))
    assert (error["message"], error["param"], error["code"]) == (NEUTRAL, None, "bad")


def test_the_prompt_is_not_quoted_as_a_param_either(api: ApiClient, settings: Any) -> None:
    body = openais("Unknown parameter", param="never mention that the margin on boots")
    assert refused(api, settings, body)["message"] == NEUTRAL


def test_short_prompts_are_not_quoted_whole(settings: Any) -> None:
    api = ApiClient(make_site(system_prompt="Be Otto. Be kind.").api_key)
    assert refused(api, settings, openais("Bad: be otto. be kind."))["message"] == NEUTRAL
    api = ApiClient(make_site(owner="b@example.com", system_prompt="Be kind").api_key)
    assert refused(api, settings, openais("Bad: be kind"))["message"] == "Bad: be kind"


def test_quoting_callers_to_themselves_tells_them_nothing_of_the_prompt(
    api: ApiClient, settings: Any
) -> None:
    guess = "Never mention that the margin"
    body = openais(f"Bad stop: {guess!r}", param="stop")
    assert refused(api, settings, body, stop=[guess])["message"] == f"Bad stop: {guess!r}"
    wrong = openais(f"Bad stop: {guess!r}. The prompt was: {PROMPT}")
    assert refused(api, settings, wrong, stop=[guess])["message"] == NEUTRAL


def test_the_gateways_name_stands_for_the_providers(api: ApiClient, settings: Any) -> None:
    error = refused(api, settings, openais(f"{MODEL} takes no parameter of that name"))
    assert error["message"] == f"{MODEL} takes no parameter of that name"


@pytest.mark.parametrize(
    ("param", "shown"), [("messages[2].content", "input"), ("temperature", "temperature")]
)
def test_a_response_has_no_messages_to_name(
    api: ApiClient, settings: Any, param: str, shown: str
) -> None:
    raw = orjson.dumps(openais("Too loud.", param=param, code="bad"))
    with served(raw, status="400 Refused") as settings.PROVIDER_BASE_URL:
        response = api.post("/v1/responses", {"model": MODEL, "input": MESSAGES})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["message"]) == (400, shown, "Too loud.")

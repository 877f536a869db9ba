"""The OpenAPI document: valid, complete, and with everything that callers were promised."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from django.test import Client
from drf_spectacular.validation import validate_schema

from conversations.api.manage.urls import ROUTES

PATHS = {
    "/api/chat": {"post"},
    "/api/history": {"get", "delete"},
    "/api/models": {"get"},
    "/api/key": {"get"},
    "/v1/chat/completions": {"post"},
    "/v1/responses": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{model_id}": {"get"},
}


# In a process that has not generated the document yet.
ALL_AT_ONCE = """
import django; django.setup()
from concurrent.futures import ThreadPoolExecutor
from django.test import Client
with ThreadPoolExecutor(6) as pool:
    answers = list(pool.map(lambda _: Client().get("/api/schema").content, range(6)))
assert b"/api/chat" in answers[0], answers[0]
assert len(set(answers)) == 1
"""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    response = Client().get("/api/schema")
    assert response.status_code == 200
    parsed: dict[str, Any] = response.json()
    return parsed


def test_is_valid_openapi_3(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.")
    validate_schema(document)  # type: ignore[no-untyped-call]


def test_first_requests_at_once_all_get_the_whole_document() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALL_AT_ONCE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_names_every_path_of_the_contract_once(document: dict[str, Any]) -> None:
    for path, methods in PATHS.items():
        assert methods == set(document["paths"][path])
    assert not [path for path in document["paths"] if path.endswith("/")]
    assert "/api/schema" not in document["paths"]


def test_every_operation_needs_a_key_and_shows_its_errors(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["apiKey"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert schemes["bearerKey"] == {"type": "http", "scheme": "bearer"}
    for path, methods in PATHS.items():
        for method in methods:
            operation = document["paths"][path][method]
            assert {"apiKey": []} in operation["security"]
            assert {"bearerKey": []} in operation["security"]
            assert {} not in operation["security"]
            assert {"401", "403", "429", "503"} <= set(operation["responses"])


def test_every_operation_of_the_management_api_needs_an_account_key(
    document: dict[str, Any],
) -> None:
    managed = {path: ops for path, ops in document["paths"].items() if "/manage/" in path}
    assert {path.removeprefix("/api/manage/") for path in managed} == set(ROUTES)
    assert "accountKey" in document["components"]["securitySchemes"]
    for path, operations in managed.items():
        for method, operation in operations.items():
            assert operation["security"] == [{"accountKey": []}, {"accountBearerKey": []}]
            assert {"401", "403", "429", "503"} <= set(operation["responses"])
            assert ("404" in operation["responses"]) == ("{" in path)
            assert ("requestBody" in operation) == (
                method in ("post", "put", "patch") and not path.endswith(("/retire", "/revoke"))
            )
            names = {one["name"] for one in operation.get("parameters", ())}
            assert ("Idempotency-Key" in names) == (method == "post")


def test_the_chat_request_has_the_limits_of_the_contract(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/chat"]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert set(schema["required"]) == {"message", "session_id"}
    # The message has a pattern, not maxLength, because the limit applies to the trimmed text.
    message = re.compile(schema["properties"]["message"]["pattern"])
    for text in ("a", " a ", "a" * 2000, "\n" + "a b" * 600 + " " * 999, "日本" * 1000):
        assert message.search(text), text
    for text in ("", " \n", "a" * 2001, "a\0b"):
        assert not message.search(text), text
    session_id = schema["properties"]["session_id"]
    assert session_id["maxLength"] == 255
    assert re.search(session_id["pattern"], " visitor 1 ")
    assert not re.search(session_id["pattern"], " ")
    metadata = document["components"]["schemas"]["ChatMetadataSchema"]["properties"]
    assert (metadata["url"]["maxLength"], metadata["title"]["maxLength"]) == (2048, 512)


def test_streams_are_described_event_by_event(document: dict[str, Any]) -> None:
    named = {"event", "data"}
    events = {"/api/chat": named, "/v1/chat/completions": {"data"}, "/v1/responses": named}
    for path, members in events.items():
        answer = document["paths"][path]["post"]["responses"]["200"]
        assert "With `stream`" in answer["description"]
        reference = answer["content"]["text/event-stream"]["schema"]["$ref"].rpartition("/")[2]
        assert set(document["components"]["schemas"][reference]["required"]) == members


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/v1/chat/completions", "/CompletionSchema"), ("/v1/responses", "/ResponseSchema")],
)
def test_errors_under_v1_have_openais_shape(
    document: dict[str, Any], path: str, answer: str
) -> None:
    responses = document["paths"][path]["post"]["responses"]
    assert {"402", "404", "502"} <= set(responses)
    for status, response in responses.items():
        schema = response["content"]["application/json"]["schema"]
        assert schema["$ref"].endswith(answer if status == "200" else "/OpenAiErrorSchema")


def test_is_the_same_as_yaml_and_with_a_slash(document: dict[str, Any]) -> None:
    response = Client().get("/api/schema/?format=yaml")
    assert response["Content-Type"] == "application/vnd.oai.openapi"
    assert yaml.safe_load(response.content) == document


def test_is_the_same_every_time() -> None:
    first, second = (Client().get("/api/schema").content for _ in range(2))
    assert first == second
    assert json.loads(first)

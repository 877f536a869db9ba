"""Official clients see the same through the gateway as from the provider itself.

Each client plays the recorded shapes twice. recorded/differences.py lists what may differ, and why.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from openai import OpenAI

from channels.models import RouteHealth
from channels.tests.factories import make_site
from conversations.tests.recorded import reading
from conversations.tests.recorded.differences import (
    COMPARED,
    UNREADABLE,
    Outcome,
    find_differences,
    usage_of,
)
from conversations.tests.recorded.provider import RecordedProvider
from conversations.tests.recorded.shapes import Shape
from conversations.tests.sdk_workspaces import SDK, npm_workspace, python_workspace, run
from conversations.tests.test_openai import MODEL, assert_books_agree

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

FAMILIES = {
    family: list(shapes)
    for family, shapes in itertools.groupby(COMPARED, lambda shape: shape.name.partition("/")[0])
}


@pytest.fixture(scope="module")
def server() -> Iterator[RecordedProvider]:
    with RecordedProvider() as provider:
        yield provider


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("family", FAMILIES)
def test_openais_python_client(
    server: RecordedProvider, live_server: Any, settings: Any, family: str, is_stream: bool
) -> None:
    settings.PROVIDER_BASE_URL = server.url
    key = make_site(system_prompt="Be kind.").api_key
    direct = OpenAI(base_url=server.url, api_key="k", max_retries=0)
    through = OpenAI(base_url=f"{live_server.url}/v1", api_key=key, max_retries=0)
    found: dict[str, Outcome] = {}
    for shape in FAMILIES[family]:
        if is_stream or shape.plain is not None:
            outcomes = [ask(client, shape, is_stream) for client in (direct, through)]
            found[shape.name] = find_differences(shape, *outcomes)
            RouteHealth.objects.all().delete()
    expect_none(found)


def expect_none(found: dict[str, Outcome]) -> None:
    """Fail with a line for each shape that differs."""
    report = "\n".join(f"{name}: {members}" for name, members in found.items() if members)
    assert not report, report
    assert_books_agree()


def ask(client: OpenAI, shape: Shape, is_stream: bool) -> Outcome:
    """Return what the client shows of the answer, or of the error that it raises."""
    body = body_of(shape)
    try:
        if is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            return shown([chunk.to_dict() for chunk in client.chat.completions.create(**body)])
        return shown(client.chat.completions.create(**body).to_dict())
    except openai.APIError as error:
        return {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": error.code,
            "param": error.param,
        }
    except ValueError as error:  # not JSON
        return {UNREADABLE: repr(error)}


def body_of(shape: Shape) -> dict[str, Any]:
    messages = [{"role": "user", "content": shape.name}]
    return {"model": MODEL, "messages": messages} | dict(shape.request)


def shown(answer: Any) -> Outcome:
    """Return the content of an answer, which is complete or a list of chunks."""
    if isinstance(answer, list):
        said = reading.put_together(answer)
    else:
        choice = (answer.get("choices") or [{}])[0]
        if "message" not in choice:
            return {UNREADABLE: answer}
        said = reading.heard(choice["message"], choice, answer.get("usage"))
    return said | {"usage": usage_of(said["usage"])}


# --- Clients in separate programs -----------------------------------------------------------------

Run = Callable[..., list[list[Any]]]


@pytest.fixture
def play(server: RecordedProvider, live_server: Any, settings: Any, tmp_path: Path) -> Run:
    """Return a function that makes a program play cases, directly and through the gateway."""
    settings.PROVIDER_BASE_URL = server.url
    site = make_site(credit_amount=1_000, system_prompt="Be kind.", requests_per_minute=6_000)

    def run_program(place: Path, *command: str, cases: list[Any]) -> list[list[Any]]:
        path = tmp_path / "cases.json"
        path.write_bytes(
            orjson.dumps([{"body": body_of(shape), "isStream": s} for shape, s in cases])
        )
        output = run(
            place,
            *command,
            CASES=str(path),
            DIRECT_URL=server.url,
            GATEWAY_URL=f"{live_server.url}/v1",
            LIVE_KEY=site.api_key,
        )
        played: list[list[Any]] = orjson.loads(output)
        return played

    return run_program


def cases(fits: Callable[[Shape], bool] = lambda shape: True) -> list[tuple[Shape, bool]]:
    """Return the compared shapes, each plain and as a stream."""
    return [
        (shape, is_stream)
        for shape in COMPARED
        for is_stream in (False, True)
        if fits(shape) and (is_stream or shape.plain is not None)
    ]


def needs_tools_at_most(shape: Shape) -> bool:
    """Return whether the shape needs no parameter except tools, so any client can ask for it."""
    return shape.request.keys() <= {"tools"}


def expect_no_differences(asked: list[tuple[Shape, bool]], played: list[list[Outcome]]) -> None:
    found = {
        f"{shape.name} {'stream' if is_stream else 'plain'}": find_differences(shape, *outcomes)
        for (shape, is_stream), outcomes in zip(asked, played, strict=True)
    }
    expect_none(found)


@pytest.mark.sdk
def test_openais_npm_client(play: Run) -> None:
    def read(answer: Any) -> Outcome:
        if "error" in answer:
            error: Outcome = answer["error"]
            return error
        return shown(answer.get("whole") or answer["chunks"])

    asked = cases()
    played = play(npm_workspace(), "node", "recorded.mjs", cases=asked)
    expect_no_differences(asked, [[read(answer) for answer in pair] for pair in played])


@pytest.mark.sdk
def test_vercels_sdk(play: Run) -> None:
    asked = cases(needs_tools_at_most)
    played = play(npm_workspace(), "node", "recorded_vercel.mjs", cases=asked)
    expect_no_differences(asked, played)


@pytest.mark.sdk
def test_langchain(play: Run) -> None:
    asked = cases(needs_tools_at_most)
    script = str(SDK / "recorded_langchain.py")
    played = play(python_workspace(), "venv/bin/python", script, cases=asked)
    expect_no_differences(asked, played)

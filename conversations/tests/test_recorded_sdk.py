"""Official clients see through the gateway what they see of the provider itself.

Each plays the recorded shapes twice; recorded/differences.py tells what may differ, and why.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from channels.models import RouteHealth
from channels.tests.factories import make_site
from conversations.tests.recorded import reading
from conversations.tests.recorded.differences import (
    COMPARED,
    Outcome,
    find_differences,
    usage_of,
)
from conversations.tests.recorded.provider import RecordedProvider, recorded_provider
from conversations.tests.recorded.shapes import Shape
from conversations.tests.test_openai import MODEL, assert_books_agree

pytestmark = pytest.mark.django_db(transaction=True)

FAMILIES = {
    family: list(shapes)
    for family, shapes in itertools.groupby(COMPARED, lambda shape: shape.name.partition("/")[0])
}


@pytest.fixture(scope="module")
def server() -> Iterator[RecordedProvider]:
    with recorded_provider() as provider:
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
    assert {name: members for name, members in found.items() if members} == {}
    assert_books_agree()


def ask(client: OpenAI, shape: Shape, is_stream: bool) -> Outcome:
    """Return what the client shows: of the answer, or of the error that it raises."""
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": shape.name}],
    } | dict(shape.request)
    try:
        if is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            chunks = client.chat.completions.create(**body)
            said = reading.put_together(chunk.to_dict() for chunk in chunks)
        else:
            whole = client.chat.completions.create(**body).to_dict()
            choice = whole["choices"][0]
            said = reading.heard(choice["message"], choice, whole.get("usage"))
    except openai.APIError as error:
        return {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": error.code,
            "param": error.param,
        }
    return said | {"usage": usage_of(said["usage"])}

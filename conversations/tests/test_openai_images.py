"""Images in messages of /v1/chat/completions: who may send them, what is held, what is stored."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from billing.models import Hold
from channels.models import LanguageModel
from channels.tests.factories import set_prices
from conversations.models import Message
from conversations.tests.test_openai import MODEL, assert_books_agree, assert_error, complete
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

PICTURE = base64.b64encode(b"\x89PNG" + b"x" * 90_000).decode()
DATA_URL = f"data:image/png;base64,{PICTURE}"
WEB_URL = "https://shop.example/boot.jpg?size=2"
TOKENS = 3_000


@pytest.fixture
def _sees() -> None:
    LanguageModel.objects.filter(model_id=MODEL).update(image_tokens=TOKENS)


def showing(*images: Any) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": image} for image in images]
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]


@pytest.mark.usefixtures("_sees")
def test_images_reach_the_provider_as_they_are(api: ApiClient, provider: FakeProvider) -> None:
    messages = showing({"url": DATA_URL, "detail": "low"}, {"url": WEB_URL})
    assert complete(api, messages).status_code == 200
    assert provider.prompts[0] == messages


@pytest.mark.usefixtures("_sees")
def test_the_hold_covers_the_images_and_not_their_bytes(
    api: ApiClient, provider: FakeProvider
) -> None:
    set_prices(price_per_1k_input_tokens_microcredits=1_000)

    def held_for(*images: Any) -> int:
        request_id = complete(api, showing(*images)).headers["X-Request-Id"]
        return Hold.objects.get(request_id=request_id).amount_microcredits

    text = held_for()
    assert held_for({"url": DATA_URL}) == text + TOKENS
    assert held_for({"url": DATA_URL}, {"url": WEB_URL}) == text + 2 * TOKENS
    assert_books_agree()


@pytest.mark.usefixtures("_sees")
def test_images_count_where_usage_is_missing(api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(reply("A boot", None, None))
    usage = complete(api, showing({"url": WEB_URL})).json()["usage"]
    assert usage["prompt_tokens"] == TOKENS + 3
    assert usage["estimated"] is True


@pytest.mark.usefixtures("_sees")
def test_more_images_than_fit_the_window_are_400(api: ApiClient, provider: FakeProvider) -> None:
    response = complete(api, showing(*[{"url": WEB_URL}] * 44))
    assert_error(response, 400, "context_length_exceeded", "messages")
    assert complete(api, showing(*[{"url": WEB_URL}] * 43)).status_code == 200


@pytest.mark.usefixtures("_sees")
def test_nothing_of_an_image_is_stored(
    api: ApiClient, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    key = {"Idempotency-Key": "k"}
    assert complete(api, showing({"url": DATA_URL}), headers=key).status_code == 200
    assert Message.objects.get().content == ""
    assert PICTURE not in caplog.text


def test_a_model_without_images_says_so_and_where(api: ApiClient, provider: FakeProvider) -> None:
    message = assert_error(
        complete(api, showing({"url": WEB_URL})), 400, "invalid_request", "messages[0].content[1]"
    )
    assert "this model takes no images" in message
    assert provider.requests == []
    assert not Hold.objects.exists()


@pytest.mark.usefixtures("_sees")
@pytest.mark.parametrize(
    "image",
    [
        None,
        WEB_URL,
        {},
        {"url": 5},
        {"url": ""},
        {"url": "http://shop.example/boot.jpg"},
        {"url": "https://"},
        {"url": "https://[x"},
        {"url": "https://shop.example/a b"},
        {"url": "file:///etc/passwd"},
        {"url": "data:image/svg+xml;base64,AAAA"},
        {"url": "data:image/png,AAAA"},
        {"url": "data:image/png;base64,"},
        {"url": "data:image/png;base64,AAA"},
        {"url": "data:image/png;base64,AA AA"},
        {"url": "data:image/png;base64,é"},
        {"url": WEB_URL, "detail": "best"},
        {"url": WEB_URL, "detail": []},
        {"url": WEB_URL, "size": 5},
    ],
)
def test_what_is_no_image_is_400_by_its_part(
    api: ApiClient, provider: FakeProvider, image: Any
) -> None:
    response = complete(api, showing({"url": WEB_URL}, image))
    param = "messages[0].content[2].image_url"
    assert assert_error(response, 400, "invalid_request", param).startswith(f"'{param}': Must")


@pytest.mark.usefixtures("_sees")
def test_the_demo_answers_a_message_with_an_image(site: Any) -> None:
    body = complete(ApiClient(site.test_key), showing({"url": DATA_URL})).json()
    assert "What is it?" in body["choices"][0]["message"]["content"]


@pytest.mark.usefixtures("_sees")
def test_the_list_of_models_says_who_takes_images(api: ApiClient) -> None:
    takes = {model["id"]: model["takes_images"] for model in api.get("/v1/models").json()["data"]}
    assert takes.pop(MODEL) is True
    assert set(takes.values()) == {False}
    assert api.get(f"/v1/models/{MODEL}").json()["takes_images"] is True

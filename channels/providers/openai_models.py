"""The list of models that a provider serves: GET /models.

No visitor waits for it, so it goes through common/web.py (docs/decisions/0036).

Protocol: https://platform.openai.com/docs/api-reference/models/list
"""

from __future__ import annotations

from typing import Any

from channels.errors import ProviderError
from channels.providers.faults import Sent, error_of, unanswered
from channels.providers.openai_compatible import OpenAiCompatibleProvider, models_url
from channels.providers.texts import parse_json
from common import web
from common.http import HttpError

# A router's list of hundreds of models, each with a page of description, has about 1 MB.
MAX_LIST_BYTES = 8 * 1024 * 1024


def list_served_models(client: OpenAiCompatibleProvider, *, deadline: float) -> list[str]:
    """Return the names of a provider's models, sorted. Raises ProviderError.

    `deadline` is a time.monotonic() value.
    """
    try:
        response = web.request(
            "GET",
            models_url(client.base_url),
            headers={k: v for k, v in client.headers().items() if k != "Content-Type"},
            deadline=deadline,
            max_bytes=MAX_LIST_BYTES,
            allow_private=client.allow_private,
        )
    except HttpError as error:
        raise unanswered(error) from error
    if not 200 <= response.status < 300:
        raise error_of(response.status, response.headers, response.body, Sent(b"", ""))
    try:
        return sorted(set(_names_in(parse_json(response.body))))
    except (ValueError, TypeError, KeyError):
        raise ProviderError("garbage") from None


def _names_in(answer: Any) -> list[str]:
    """Return the names in a list of models, which some providers send without `data` around it."""
    models = answer["data"] if isinstance(answer, dict) else answer
    # A control character could affect the terminal of the person who reads the list.
    return [name for model in models if (name := str(model["id"])).isprintable()]

"""A real, tiny call through one route, to see whether it answers. Nobody is charged for it.

It bypasses the breaker, because a route that is left out is the one that staff want to test. Its
result does not change the breaker, which has its own probes.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels import adaptation, routes
from channels.errors import ProviderError
from channels.models import Route
from channels.probes import REQUEST
from channels.providers.base import Completion, Patience
from channels.providers.openai_compatible import OpenAiCompatibleProvider, ask
from common import db

DEADLINE_SECONDS = 10.0
# As from a visitor, so that it shows whether the answer begins within a thought.
_REQUEST = replace(REQUEST, hides_thinking=True)
NO_KEY = "no_key"

# Plain words for the reasons of failed calls (providers/, common/http.py).
_WORDS = {
    NO_KEY: _("The provider has no key: store one here, or set the environment variable it names."),
    "timeout": _("The complete answer did not arrive in time."),
    "connection": _("The provider's server could not be reached."),
    "tls": _("No secure connection: the provider's certificate is not trusted or does not match."),
    "broken": _("The connection broke off, or the answer is not HTTP."),
    "private_address": _("The address is private. PROVIDER_ALLOW_PRIVATE_ADDRESSES allows it."),
    "address": _("The provider's address is not a web address."),
    "garbage": _("The answer does not follow OpenAI's chat protocol. Does the address end in /v1?"),
    "no_text": _("The answer contains no text."),
    "too_large": _("The answer is larger than this gateway accepts."),
    "encoding": _("The answer uses a compression that the gateway did not ask for."),
    "model_retired": _("The provider no longer serves the model under this name."),
    "content_filter": _("The provider's content filter refused the question."),
    "request_too_large": _("The provider says that even this short question is too large."),
    "error_event": _("The provider sent an error instead of an answer."),
    "context_length_exceeded": _("The provider says that even this short question is too long."),
    "status_400": _("The provider refused the request as malformed."),
    "status_401": _("The provider does not accept the key."),
    "status_402": _("The provider requires payment first."),
    "status_403": _("The provider does not allow this key to use the model."),
    "status_404": _("The provider does not know the model, or the address is wrong."),
    "status_429": _("The provider's rate limit is reached. Try again in a while."),
}


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call through a route. `reason` is empty if the provider answered."""

    provider_name: str
    provider_model: str
    duration_ms: int
    completion: Completion | None = None
    reason: str = ""
    is_permanent: bool = False

    @property
    def words(self) -> str:
        """The reason of the failure, in plain words."""
        return explain(self.reason)


def explain(reason: str) -> str:
    """Return the reason of a provider's failure in plain words."""
    if reason in _WORDS:
        return str(_WORDS[reason])
    status = re.fullmatch(r"status_(\d{3})", reason)
    if status is None:
        return gettext("The call failed (%(reason)s).") % {"reason": reason} if reason else ""
    if status[1].startswith("5"):
        return gettext("The provider's own server failed (HTTP %(status)s).") % {
            "status": status[1]
        }
    return gettext("The provider answered HTTP %(status)s.") % {"status": status[1]}


def try_route(route: Route) -> Result:
    """Send a route a short request. Returns the result within ten seconds.

    No transaction may be open, because this releases the database connection before the call.
    """
    client = routes.client_of(route)
    if client is None:
        return Result(route.provider.name, route.provider_model, 0, reason=NO_KEY)
    return _ask(client)


def try_default(model_id: str) -> Result:
    """Send the same request for a model to the provider of PROVIDER_BASE_URL."""
    client = routes.default_client_of(model_id)
    if client is None:
        return Result(routes.DEFAULT_PROVIDER, model_id, 0, reason=NO_KEY)
    return _ask(client)


def _ask(client: OpenAiCompatibleProvider) -> Result:
    db.release_connection()
    started = time.monotonic()
    until = started + DEADLINE_SECONDS
    patience = Patience(first_token_by=until, stream_by=until, silence_seconds=DEADLINE_SECONDS)
    completion, reason, is_permanent = None, "", False
    try:
        completion, asked = ask(client, _REQUEST, patience=patience)
        adaptation.remember(asked, client.traits)
        adaptation.learn_of_thoughts(client, completion)
    except ProviderError as error:
        reason, is_permanent = error.reason, error.permanent
    duration_ms = round((time.monotonic() - started) * 1000)
    names = client.provider_name, client.provider_model
    return Result(*names, duration_ms, completion, reason, is_permanent)

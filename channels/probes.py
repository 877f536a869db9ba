"""Probes: short fixed requests that the gateway sends to a route, without any tenant's data.

After doubtful failures, only a probe's result opens or closes a breaker (channels/breaker.py). The
operator pays the provider for it: the log shows its tokens, and nobody's usage includes them. If a
process ends during its probe, the next probe is due within seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import connection
from django.utils import timezone

from channels import adaptation, breaker
from channels.breaker import Claim, Health
from channels.errors import Fault, ProviderError
from channels.providers.base import ChatRequest, Completion, OnDelta, Patience
from channels.providers.openai_compatible import OpenAiCompatibleProvider, ask
from common.threads import Threads

logger = logging.getLogger("gateway.channels")

QUESTION = "Reply with the single word: pong"
REQUEST = ChatRequest([{"role": "user", "content": QUESTION}], max_output_tokens=64)
# Shorter than OUT_OF_DATE_AFTER by more than the time between two probes.
LONGEST_SECONDS = 10.0
# A claim outlives its probe by this much, so that the result of a probe that timed out counts.
# Otherwise the next failure could claim the route in between, and the route would stay closed.
NOTING_SECONDS = 1.0
# The provider accepted key and model, and commented on the request.
_ANSWERED = (Fault.REQUEST, Fault.DECLINED)

_threads = Threads()


def start_if_due(
    client: OpenAiCompatibleProvider, health: Health, *, now: datetime, is_slow: bool
) -> None:
    """Probe a route on a separate thread, if a probe is due and no other process has claimed it.

    With `is_slow`, a timeout proves nothing, because the model may think for longer than a probe
    waits.
    """
    seconds = deadline_seconds()
    until = now + timedelta(seconds=seconds + NOTING_SECONDS)
    route = client.provider_name, client.provider_model
    claim = breaker.claim_probe(*route, health, now=now, until=until)
    if claim is not None:
        _run_beside(partial(_probe, client, claim, seconds, is_slow))


def deadline_seconds() -> float:
    """Return how long a probe may take: a quarter of a message's limit, since it asks for a word.

    At least 1 and at most LONGEST_SECONDS.
    """
    return max(1.0, min(LONGEST_SECONDS, settings.PROVIDER_DEADLINE / 4))


def _run_beside(task: Callable[[], object]) -> None:
    def work() -> None:
        try:
            task()
        except Exception:
            # Whatever the cause, such as an unreachable database, the next probe tries again.
            logger.exception("provider.probe.failed")
        finally:
            connection.close()

    _threads.start(work)


def _probe(client: OpenAiCompatibleProvider, claim: Claim, seconds: float, is_slow: bool) -> None:
    route = client.provider_name, client.provider_model
    started = time.monotonic()
    error: ProviderError | None = None
    completion: Completion | None = None
    try:
        completion = _ask(client, claim.is_stream, until=started + seconds)
    except ProviderError as raised:
        error = raised
    fields = {
        "provider": client.provider_name,
        "model": client.provider_model,
        "is_stream": claim.is_stream,
        "reason": error.reason if error else "",
        "duration_ms": round((time.monotonic() - started) * 1000),
        "input_tokens": completion and completion.usage and completion.usage.input_tokens,
        "output_tokens": completion and completion.usage and completion.usage.output_tokens,
    }
    logger.info("provider.route.probed", extra=fields)
    now = timezone.now()
    if error is None or error.fault in _ANSWERED or (is_slow and error.reason == "timeout"):
        breaker.note_probe_success(*route, claim)
    elif error.fault is Fault.LIMITED:
        breaker.note_failure(*route, error, now=now)
    else:
        breaker.note_probe_failure(*route, error, claim, now=now)


def _ask(client: OpenAiCompatibleProvider, is_stream: bool, *, until: float) -> Completion:
    patience = Patience(
        first_token_by=until, stream_by=until, silence_seconds=settings.PROVIDER_STREAM_SILENCE
    )
    on_delta: OnDelta | None = (lambda _: None) if is_stream else None
    completion, asked = ask(client, REQUEST, patience=patience, on_delta=on_delta)
    adaptation.remember(asked, client.traits)
    return completion

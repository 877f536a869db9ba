"""GET /docs/: the API reference for people."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy

from channels import catalogue
from dashboard.public_address import site_url
from dashboard.reference import facts, snippets

# Anchor and title of each part of the page, in order.
PARTS = (
    ("start", gettext_lazy("Quick start")),
    ("authentication", gettext_lazy("Authentication")),
    ("chat", gettext_lazy("Send a message")),
    ("streaming", gettext_lazy("Streaming")),
    ("sessions", gettext_lazy("Sessions")),
    ("idempotency", gettext_lazy("Retries and idempotency")),
    ("history", gettext_lazy("History")),
    ("usage", gettext_lazy("Usage")),
    ("models", gettext_lazy("Models")),
    ("key", gettext_lazy("Key")),
    ("openai", gettext_lazy("OpenAI-compatible")),
    ("headers", gettext_lazy("Headers")),
    ("limits", gettext_lazy("Limits and credits")),
    ("errors", gettext_lazy("Errors")),
    ("testing", gettext_lazy("Test keys")),
    ("manage", gettext_lazy("Management API")),
    ("endpoints", gettext_lazy("All endpoints")),
)


def api_reference(request: HttpRequest) -> HttpResponse:
    """Show the public API reference. Needs no log-in."""
    base_url = site_url(request)
    model = catalogue.models_offered(None).first()
    model_id = model.model_id if model else "MODEL_ID"
    languages = snippets.list_languages(base_url=base_url, model=model_id)
    return render(
        request,
        "public/api_reference.html",
        {
            "parts": PARTS,
            "base_url": base_url,
            "model_id": model_id,
            "languages": [one for one in languages if not one.id.startswith("openai")],
            "openai_languages": [one for one in languages if one.id.startswith("openai")],
            "curl": {one.id: one for one in languages[0].snippets},
            "limits": facts.limits(),
            "errors": facts.ERRORS,
            "simulations": facts.SIMULATIONS,
            "endpoints": facts.ENDPOINTS,
            "manage_endpoints": facts.MANAGE_ENDPOINTS,
        },
    )

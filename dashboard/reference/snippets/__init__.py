"""Working code for callers, in several languages. Pages, docs, and tests use the same text.

Pure functions of the gateway's address, a key, and a model. dashboard/tests/test_snippets.py runs
each snippet unchanged against a live server.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from dashboard.reference.snippets import curl, javascript, openai, php, python
from dashboard.reference.snippets.form import Form

# Stands in for the key until the owner inserts it.
KEY_PLACEHOLDER = "YOUR_API_KEY"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A complete program, to be copied and run unchanged."""

    id: str
    title: str
    note: str
    file_name: str
    text: str


@dataclass(frozen=True, slots=True)
class Language:
    """A tab with the same tasks in one language or client."""

    id: str
    title: str
    note: str
    snippets: tuple[Snippet, ...]


def list_languages(*, base_url: str, key: str = KEY_PLACEHOLDER, model: str) -> list[Language]:
    """Return all snippets by language. `base_url` has no trailing slash."""

    def fill(form: Form) -> Snippet:
        text = form.text.strip("\n") + "\n"
        for name, value in (("BASE_URL", base_url), ("API_KEY", key), ("MODEL", model)):
            text = text.replace(f"«{name}»", value)
        return Snippet(form.id, _(form.title), _(form.note), form.file_name, text)

    return [
        Language(id_, _(title), _(note), tuple(fill(form) for form in forms))
        for id_, title, note, forms in _LANGUAGES
    ]


def get_snippet(
    language: str, snippet: str, *, base_url: str, key: str = KEY_PLACEHOLDER, model: str
) -> Snippet:
    """Return one snippet. Raises KeyError if there is none."""
    for one in list_languages(base_url=base_url, key=key, model=model):
        for candidate in one.snippets:
            if (one.id, candidate.id) == (language, snippet):
                return candidate
    raise KeyError(f"{language}/{snippet}")


def curl_for(
    *, base_url: str, key: str, message: str, session_id: str, is_stream: bool, simulate: str = ""
) -> str:
    """Return the command line that sends exactly this message, safely quoted."""
    body = {"message": message, "session_id": session_id} | ({"stream": True} if is_stream else {})
    lines = [
        f"curl -sS{'N' if is_stream else ''} {shlex.quote(base_url + '/api/chat')}",
        f"-H {shlex.quote('X-API-Key: ' + key)}",
        "-H 'Content-Type: application/json'",
        *([f"-H {shlex.quote('X-Simulate: ' + simulate)}"] if simulate else []),
        f"--data-raw {shlex.quote(json.dumps(body, ensure_ascii=False))}",
    ]
    return " \\\n  ".join(lines)


# Id, title, requirements, snippets.
_LANGUAGES: tuple[tuple[str, str, str, tuple[Form, ...]], ...] = (
    ("curl", "cURL", gettext_noop("For a terminal, to try things out."), curl.CURL),
    (
        "javascript",
        "JavaScript",
        gettext_noop("Node 18 or newer; nothing to install."),
        javascript.JAVASCRIPT,
    ),
    ("python", "Python", "pip install requests", python.PYTHON),
    ("php", "PHP", gettext_noop("PHP 8 with the curl extension."), php.PHP),
    ("openai-python", "OpenAI SDK, Python", "pip install openai", openai.PYTHON),
    ("openai-node", "OpenAI SDK, Node", "npm install openai", openai.NODE),
)

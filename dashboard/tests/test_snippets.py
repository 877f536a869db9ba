"""Every published snippet runs unchanged against a server and does what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from billing.models import LedgerEntry
from channels.tests.factories import Site, make_site
from conversations.models import Message
from conversations.tests.sdk_workspaces import npm_workspace
from conversations.tests.sdk_workspaces import run as run_in
from dashboard.reference import snippets
from dashboard.reference.snippets import KEY_PLACEHOLDER, Language
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply
from tests.support.programs import need_command

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]

MODEL = "llama-3.3-70b-versatile"
DEMO = "This is a demo reply to a test key"
OPENING = "Hello! What can you do?"
COMMANDS = {
    "curl": ("bash",),  # a script of curl command lines
    "javascript": ("node",),
    "python": (sys.executable,),
    "php": ("php",),
    "openai-python": (sys.executable,),
}
LANGUAGES = snippets.list_languages(base_url="http://x", model=MODEL)
PLAIN = ("javascript", "python", "php")


Run = Callable[..., str]


@pytest.fixture
def run(site: Site, live_server: Any, tmp_path: Path) -> Run:
    """Return a function that runs a snippet and returns all its output."""

    def run_snippet(language: str, snippet: str, key: str = "", status: int | None = 0) -> str:
        command = COMMANDS[language]
        need_command(command[0], *(["curl"] if language == "curl" else []))
        found = snippets.get_snippet(
            language,
            snippet,
            base_url=live_server.url,
            key=key or site.test_key,
            model=MODEL,
        )
        path = tmp_path / found.file_name
        path.write_text(found.text)
        result = subprocess.run(
            [*command, str(path)], capture_output=True, text=True, timeout=300, check=False
        )
        output = result.stdout + result.stderr
        assert status is None or result.returncode == status, output
        return output

    return run_snippet


def test_every_language_can_be_run_here_or_in_ci() -> None:
    assert {one.id for one in LANGUAGES} == {*COMMANDS, "openai-node"}
    for language in LANGUAGES:
        assert {"chat", "stream"} <= {snippet.id for snippet in language.snippets}


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.id)
def test_everything_is_filled_in(language: Language) -> None:
    for snippet in language.snippets:
        assert "«" not in snippet.text
        assert "http://x/" in snippet.text
        assert KEY_PLACEHOLDER in snippet.text
        assert max(map(len, snippet.text.splitlines())) <= 100


# --- Plain answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("language", PLAIN)
def test_a_conversation_is_two_answers_in_one_session(run: Run, language: str) -> None:
    output = run(language, "chat")
    assert output.count(DEMO) == 2
    assert "(message 2 of this conversation)" in output
    asked = Message.objects.filter(role=Message.Role.USER).order_by("position")
    assert [message.content for message in asked] == [OPENING, "Tell me more."]
    assert {message.page_title for message in asked} == {"Pricing"}
    assert len({message.session_id for message in asked}) == 1


def test_curl_asks_and_reads_the_answer(run: Run, site: Site) -> None:
    answer = json.loads(run("curl", "chat"))
    assert answer["reply"].startswith(DEMO)
    assert answer["session_id"] == "visitor-1"
    assert len(ApiClient(site.test_key).history("visitor-1")) == 2


@pytest.mark.parametrize("language", PLAIN)
def test_a_failure_that_passes_is_tried_again_and_paid_once(
    run: Run, site: Site, provider: FakeProvider, language: str
) -> None:
    provider.fail()
    output = run(language, "chat", site.api_key)
    assert "Reply 2" in output
    assert "Reply 3" in output
    assert LedgerEntry.objects.exclude(hold_id=None).count() == 2


@pytest.mark.parametrize("language", PLAIN)
def test_a_refusal_is_said_with_its_code_and_the_owners_words(
    run: Run, provider: FakeProvider, language: str
) -> None:
    poor = make_site(
        owner="poor@example.com", credit_amount=0, fallback_replies={"credits_exhausted": "Call us"}
    )
    output = run(language, "chat", poor.api_key)
    assert "credits_exhausted" in output
    assert "Call us" in output


def test_curl_gets_the_same_answer_again(run: Run, site: Site, provider: FakeProvider) -> None:
    provider.fail()
    first = run("curl", "retry", site.api_key)
    # Its stderr says that it has tried again.
    assert "Reply 2" in first
    assert "Reply 2" in run("curl", "retry", site.api_key)
    assert len(provider.requests) == 2
    assert LedgerEntry.objects.exclude(hold_id=None).count() == 1


def test_curl_shows_an_error_that_a_test_key_asked_for(run: Run) -> None:
    output = run("curl", "errors")
    assert " 429 " in output.splitlines()[0]
    assert "Retry-After: 30" in output
    assert '"code":"rate_limited"' in output


# --- Streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", PLAIN)
def test_a_stream_is_put_together(run: Run, language: str) -> None:
    output = run(language, "stream")
    assert f"You said: “{OPENING}” (message 1 of this conversation)" in output
    assert "0.000000 credits" in output


@pytest.mark.parametrize("language", PLAIN)
def test_a_stream_that_breaks_off_is_an_error(
    run: Run, site: Site, provider: FakeProvider, language: str
) -> None:
    provider.script.append(reply("Half of it BREAK"))
    output = run(language, "stream", site.api_key, status=None)
    assert "Half of it" in output
    assert "provider_error" in output


@pytest.mark.parametrize("language", PLAIN)
def test_a_stream_that_never_begins_is_an_error(
    run: Run, provider: FakeProvider, language: str
) -> None:
    poor = make_site(owner="poor@example.com", credit_amount=0)
    assert "credits_exhausted" in run(language, "stream", poor.api_key, status=None)


def test_curl_streams(run: Run) -> None:
    output = run("curl", "stream")
    assert output.startswith("event: delta\ndata: ")
    assert output.count("event: done") == 1


# --- History ------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["curl", *PLAIN])
def test_history_is_read_and_erased(run: Run, site: Site, language: str) -> None:
    client = ApiClient(site.test_key)
    assert client.chat("Is this kept?", "visitor-1").status_code == 200
    output = run(language, "history")
    assert "Is this kept?" in output
    assert DEMO in output
    if language != "curl":
        assert "erased: " in output
        assert output.rstrip().lower().endswith("true")
    assert client.history("visitor-1") == []


# --- OpenAI's clients ---------------------------------------------------------------------------


def test_openais_python_client_answers_and_streams(run: Run) -> None:
    output = run("openai-python", "chat")
    assert output.startswith(DEMO)
    assert output.rstrip().endswith(" tokens")
    assert OPENING in run("openai-python", "stream")


def test_openais_python_client_tells_errors(run: Run, provider: FakeProvider) -> None:
    poor = make_site(owner="poor@example.com", credit_amount=0)
    assert "402 credits_exhausted: " in run("openai-python", "chat", poor.api_key, status=1)
    assert "credits_exhausted: " in run("openai-python", "stream", poor.api_key, status=1)


@pytest.mark.sdk
def test_openais_node_client_answers_and_streams(site: Site, live_server: Any) -> None:
    workspace = npm_workspace()
    for name in ("chat", "stream"):
        found = snippets.get_snippet(
            "openai-node", name, base_url=live_server.url, key=site.test_key, model=MODEL
        )
        (workspace / found.file_name).write_text(found.text)
        assert OPENING in run_in(workspace, "node", found.file_name)


# --- One message, as typed ----------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_command_line_holds_any_message(
    site: Site, live_server: Any, tmp_path: Path, is_stream: bool
) -> None:
    need_command("curl")
    message = """It's «odd»: "$HOME" `id` \\n $(id) %s
    and @/etc/passwd ünïcode"""
    command = snippets.curl_for(
        base_url=live_server.url,
        key=site.test_key,
        message=message,
        session_id="s'1",
        is_stream=is_stream,
    )
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=300, check=True
    )
    assert DEMO in result.stdout.replace('"}\n\nevent: delta\ndata: {"text":"', "")
    assert ApiClient(site.test_key).history("s'1")[0]["content"] == message


def test_a_command_line_asks_for_a_simulation(site: Site, live_server: Any) -> None:
    need_command("curl")
    command = snippets.curl_for(
        base_url=live_server.url,
        key=site.test_key,
        message="Hello",
        session_id="s1",
        is_stream=False,
        simulate="site_disabled",
    )
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=300, check=True
    )
    assert json.loads(result.stdout)["code"] == "site_disabled"

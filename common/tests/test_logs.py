"""Log lines: one JSON object each, with the request id, never with a key."""

from __future__ import annotations

import io
import json
import logging
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from common.logs import JsonFormatter, request_id_var, scrub

# Shaped like generated keys, but made up.
LIVE_KEY = "amgai_" + "aB3" * 14
TEST_KEY = "amgai_test_" + "aB3" * 14
PROVIDER_KEYS = ("sk-or-v1-0123456789abcdef0123", "gsk_AbCdEf0123456789AbCdEf", "sk-proj-a_b-c" * 3)


class Log:
    """A logger that writes where a test can read it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.logger = logging.Logger("test.log")  # noqa: LOG001  # separate from all others
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(JsonFormatter())
        self.logger.addHandler(handler)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def entry(self) -> dict[str, Any]:
        """Return the only line."""
        line, end = self.text.split("\n", 1)
        assert end == ""
        parsed: dict[str, Any] = json.loads(line)
        return parsed


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def request_id() -> Iterator[str]:
    token = request_id_var.set("req_1")
    yield "req_1"
    request_id_var.reset(token)


def test_a_line_is_one_json_object(log: Log, clock: Any) -> None:
    log.logger.warning("billing.hold.%s", "captured")
    assert log.entry() == {
        "time": "2026-04-05T12:00:00.000+00:00",
        "level": "warning",
        "logger": "test.log",
        "event": "billing.hold.captured",
    }


def test_a_line_carries_the_requests_id_and_extra_fields(log: Log, request_id: str) -> None:
    channel_id = uuid.uuid4()
    log.logger.info("e", extra={"status": 200, "channel_id": channel_id, "nested": {"a": [None]}})
    entry = log.entry()
    assert entry["request_id"] == request_id
    assert (entry["status"], entry["nested"]) == (200, {"a": [None]})
    assert entry["channel_id"] == str(channel_id)


def test_djangos_request_object_is_left_out(log: Log) -> None:
    log.logger.error("e", extra={"request": object(), "status_code": 500})
    assert set(log.entry()) == {"time", "level", "logger", "event", "status_code"}


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\nb", '"quoted" \\ and \\"', "\x1b[31mred\x1b[0m", "\x00\x07", "é中\U0001f600"],
)
def test_odd_text_stays_on_one_line_and_reads_back(log: Log, text: str) -> None:
    log.logger.info(text, extra={"field": text})
    assert (log.entry()["event"], log.entry()["field"]) == (text, text)
    assert "\x1b" not in log.text
    assert "\r" not in log.text


@pytest.mark.parametrize("text", ["\x9b31m", "\x85", "\u2028", "\u2029"])
def test_c1_controls_and_unicode_line_breaks_are_escaped(log: Log, text: str) -> None:
    """A path may contain them: U+009B begins a terminal escape sequence, the others end a line."""
    log.logger.info("e", extra={"path": f"/api/{text}"})
    assert log.entry()["path"] == f"/api/{text}"
    assert text[0] not in log.text


def test_a_traceback_is_a_field(log: Log) -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        log.logger.exception("e")
    assert log.entry()["traceback"].endswith("KeyError: 'lost'")


@pytest.mark.parametrize("key", [LIVE_KEY, TEST_KEY, *PROVIDER_KEYS])
@pytest.mark.parametrize(
    "words", ["{}", "key={} sent", "['{}', 'x']", '{{"key": "{}"}}', "x\n{}\ny"]
)
def test_keys_are_cut_down_to_their_prefix(log: Log, key: str, words: str) -> None:
    log.logger.info(words.format(key), extra={"field": words.format(key)})
    entry = log.entry()
    assert key[-8:] not in log.text
    for field in ("event", "field"):
        before, after = words.format("|").split("|")
        assert entry[field].startswith(before)
        assert entry[field].endswith("…" + after)


@pytest.mark.parametrize("key", [LIVE_KEY, TEST_KEY, *PROVIDER_KEYS])
def test_keys_in_tracebacks_are_cut_down_too(log: Log, key: str) -> None:
    try:
        try:
            raise ValueError(f"Invalid header value b'Bearer {key}'")
        except ValueError as error:
            raise RuntimeError(f"X-API-Key: {key}") from error
    except RuntimeError:
        log.logger.exception("e")
    assert key[-8:] not in log.text
    assert "RuntimeError" in log.entry()["traceback"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_bearer_tokens_are_cut_whatever_they_look_like(log: Log, scheme: str) -> None:
    log.logger.info("sent", extra={"headers": {"Authorization": f"{scheme} any.thing/at+all=="}})
    assert "any.thing" not in log.text
    assert log.entry()["headers"] == {"Authorization": f"{scheme} …"}


@pytest.mark.parametrize(
    "text", ['sent "Authorization: Bearer abc" twice', "Bearer abc\\", "Bearer \\"]
)
def test_scrubbing_leaves_valid_json(log: Log, text: str) -> None:
    log.logger.info(text)
    assert "abc" not in log.entry()["event"]


def test_scrubbing_a_token_keeps_the_line_after_it(log: Log) -> None:
    log.logger.info("Bearer abc\nNext: line")
    assert log.entry()["event"] == "Bearer …\nNext: line"


@pytest.mark.parametrize(
    "word", ["a", "a_", "sk-", "bearer ", "amgai_" + "a" * 41 + "_", "a" * 42 + "_"]
)
def test_scrubbing_takes_linear_time(word: str) -> None:
    """Any caller can put a 60 KB path into the access log. Scrubbing it once took 15 s."""
    text = (word * 60_000)[:60_000]
    began = time.thread_time()  # CPU time, so that other processes do not count
    scrub(text)
    assert time.thread_time() - began < 1


def test_keys_of_another_prefix_are_scrubbed_too(settings: Settings) -> None:
    settings.API_KEY_PREFIX = "acme_"
    assert "aB3aB3aB3" not in scrub("acme_" + "aB3" * 14)


@pytest.mark.parametrize(
    "text",
    ["amgai_…x7Qf", "a task about risk-taking people", "bearer", "channels.key.revoked", "sk-1"],
)
def test_ordinary_words_stay(text: str) -> None:
    assert scrub(text) == text


def test_what_json_does_not_know_is_written_as_text(log: Log) -> None:
    log.logger.info("e", extra={"blob": b"\xff", "error": ValueError("lost"), "set": {1}})
    entry = log.entry()
    assert (entry["blob"], entry["error"], entry["set"]) == ("b'\\xff'", "lost", "{1}")


def test_lone_surrogates_do_not_lose_the_line() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    record = logging.makeLogRecord({"msg": "e", "field": "\ud800"})
    stream.write(JsonFormatter().format(record))
    stream.flush()
    assert b'"event"' in raw.getvalue()


def test_an_extra_field_never_replaces_one_of_the_line() -> None:
    record = logging.makeLogRecord({"msg": "x", "levelname": "INFO", "level": "LOW", "time": "t"})
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["event"]) == ("info", "x")
    assert line["time"] != "t"


@pytest.mark.parametrize("before", ["", "\n", "\t", '"', "\\", "a "])
def test_a_secret_behind_an_escape_is_found_as_well(log: Log, before: str) -> None:
    log.logger.info("said", extra={"text": f"{before}sk-abcdefgh12345678"})
    assert "abcdefgh12345678" not in log.text

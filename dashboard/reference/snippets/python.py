"""Python, with requests."""

from __future__ import annotations

from django.utils.translation import gettext_noop

from dashboard.reference.snippets.form import Form

PYTHON = (
    Form(
        "chat",
        gettext_noop("Ask, with retries and errors"),
        "chat.py",
        gettext_noop("Every try sends the same Idempotency-Key, so a message is charged once."),
        r"""
import time
import uuid

import requests

API_URL = "«BASE_URL»/api"
API_KEY = "«API_KEY»"  # keep it in an environment variable


def ask(message, session_id, page=None):
    idempotency_key = str(uuid.uuid4())
    for attempt in (1, 2, 3):
        response = requests.post(
            f"{API_URL}/chat",
            headers={"X-API-Key": API_KEY, "Idempotency-Key": idempotency_key},
            json={"message": message, "session_id": session_id, "metadata": page},
            timeout=90,
        )
        answer = response.json()
        if response.ok:
            return answer["reply"]
        wait = int(response.headers.get("Retry-After", attempt))
        may_pass = (
            response.status_code in (409, 429, 500, 503)
            and response.headers.get("X-Should-Retry") != "false"
        )
        if not may_pass or wait > 30 or attempt == 3:
            break
        time.sleep(wait)
    print(response.status_code, answer["code"], answer["error"], answer["request_id"])
    return answer.get("fallback_reply", "Sorry, I cannot answer right now.")


# One session id for each visitor, made by your backend: it is one conversation.
session_id = f"visitor-{uuid.uuid4()}"
page = {"url": "https://example.com/pricing", "title": "Pricing"}
print(ask("Hello! What can you do?", session_id, page))
print(ask("Tell me more.", session_id, page))
""",
    ),
    Form(
        "stream",
        gettext_noop("Stream the answer"),
        "stream.py",
        gettext_noop(
            "A failure before the first word is a plain JSON error; later it is an error event."
        ),
        r"""
import json
import uuid

import requests

with requests.post(
    "«BASE_URL»/api/chat",
    headers={"X-API-Key": "«API_KEY»"},
    json={
        "message": "Hello! What can you do?",
        "session_id": f"visitor-{uuid.uuid4()}",
        "stream": True,
    },
    stream=True,
    timeout=90,
) as response:
    if not response.ok:
        problem = response.json()
        raise SystemExit(f"{response.status_code} {problem['code']}: {problem['error']}")
    event = b""
    for line in response.iter_lines():
        # Comment lines, which keep silent connections open, have no name.
        name, _, value = line.partition(b": ")
        if name == b"event":
            event = value
        elif name == b"data":
            data = json.loads(value)
            if event == b"delta":
                print(data["text"], end="", flush=True)
            elif event == b"done":
                print(f"\n\n{data['credits']['charged']} credits")
            elif event == b"error":
                raise SystemExit(f"{data['code']}: {data['error']}")
""",
    ),
    Form(
        "history",
        gettext_noop("Read and erase a conversation"),
        "history.py",
        gettext_noop("Costs nothing. Erased text is gone for good."),
        r"""
import requests

request = {
    "url": "«BASE_URL»/api/history",
    "params": {"session_id": "visitor-1"},
    "headers": {"X-API-Key": "«API_KEY»"},
    "timeout": 30,
}

response = requests.get(**request)
response.raise_for_status()
for message in response.json()["messages"]:
    print(message["created_at"], message["role"], message["content"])

print("erased:", requests.delete(**request).status_code == 204)
""",
    ),
)

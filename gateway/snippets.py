"""Working code for callers, in every language we show: one text for pages, docs and tests.

Pure: a snippet is a function of the gateway's address, a key and a model. Each one is run as it
stands against a live server by gateway/tests/test_snippets.py.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

# What stands where the key belongs until its owner puts it in.
KEY_PLACEHOLDER = "YOUR_API_KEY"


@dataclass(frozen=True, slots=True)
class Snippet:
    """One program: whole, to be copied and run as it is."""

    id: str
    title: str
    note: str
    file_name: str
    text: str


@dataclass(frozen=True, slots=True)
class Language:
    """A tab: the same things to do, in one language or client."""

    id: str
    title: str
    note: str
    snippets: tuple[Snippet, ...]


@dataclass(frozen=True, slots=True)
class _Form:
    """A snippet before address, key and model are filled in."""

    id: str
    title: str
    file_name: str
    note: str
    text: str


def list_languages(*, base_url: str, key: str = KEY_PLACEHOLDER, model: str) -> list[Language]:
    """Return all snippets by language. `base_url` has no slash at its end."""

    def fill(form: _Form) -> Snippet:
        text = form.text.strip("\n") + "\n"
        for name, value in (("BASE_URL", base_url), ("API_KEY", key), ("MODEL", model)):
            text = text.replace(f"«{name}»", value)
        return Snippet(form.id, form.title, form.note, form.file_name, text)

    return [
        Language(id_, title, note, tuple(fill(form) for form in forms))
        for id_, title, note, forms in _LANGUAGES
    ]


def get_snippet(
    language: str, snippet: str, *, base_url: str, key: str = KEY_PLACEHOLDER, model: str
) -> Snippet:
    """Return one snippet. Raises KeyError where there is none."""
    for one in list_languages(base_url=base_url, key=key, model=model):
        for candidate in one.snippets:
            if (one.id, candidate.id) == (language, snippet):
                return candidate
    raise KeyError(f"{language}/{snippet}")


def curl_for(
    *, base_url: str, key: str, message: str, session_id: str, is_stream: bool, simulate: str = ""
) -> str:
    """Return the command line that sends this very message; whatever it holds, safely quoted."""
    body = {"message": message, "session_id": session_id} | ({"stream": True} if is_stream else {})
    lines = [
        f"curl -sS{'N' if is_stream else ''} {shlex.quote(base_url + '/api/chat')}",
        f"-H {shlex.quote('X-API-Key: ' + key)}",
        "-H 'Content-Type: application/json'",
        *([f"-H {shlex.quote('X-Simulate: ' + simulate)}"] if simulate else []),
        f"--data-raw {shlex.quote(json.dumps(body, ensure_ascii=False))}",
    ]
    return " \\\n  ".join(lines)


_CURL = (
    _Form(
        "chat",
        "Ask",
        "chat.sh",
        "One message, one answer. All messages of one session_id are one conversation.",
        r"""
curl -sS «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -d '{
    "message": "Hello! What can you do?",
    "session_id": "visitor-1",
    "metadata": {"url": "https://example.com/pricing", "title": "Pricing"}
  }'
""",
    ),
    _Form(
        "stream",
        "Ask, word by word",
        "stream.sh",
        "The answer as server-sent events: delta events, then one done or one error.",
        r"""
curl -sSN «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -d '{"message": "Tell me more.", "session_id": "visitor-1", "stream": true}'
""",
    ),
    _Form(
        "retry",
        "Ask safely again",
        "retry.sh",
        "The same Idempotency-Key and body within 24 hours get the same answer, paid once.",
        r"""
# --retry tries again after 408, 429, 500, 502, 503 and 504, and waits for Retry-After.
curl -sS --retry 3 --max-time 90 «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -H 'Idempotency-Key: visitor-1-message-3' \
  -d '{"message": "And what does it cost?", "session_id": "visitor-1"}'
""",
    ),
    _Form(
        "history",
        "Read and erase a conversation",
        "history.sh",
        "Costs nothing. What is erased is gone for good.",
        r"""
# Everything said in this session, oldest first.
curl -sS '«BASE_URL»/api/history?session_id=visitor-1' -H 'X-API-Key: «API_KEY»'

# Erase it; answers 204, also where there was nothing.
curl -sS -X DELETE '«BASE_URL»/api/history?session_id=visitor-1' -H 'X-API-Key: «API_KEY»'
""",
    ),
    _Form(
        "errors",
        "See an error",
        "errors.sh",
        "With a test key, X-Simulate makes any error happen; a live key's is ignored.",
        r"""
# -i shows the status, Retry-After and X-Request-Id before the body.
curl -sSi «BASE_URL»/api/chat \
  -H 'X-API-Key: «API_KEY»' \
  -H 'Content-Type: application/json' \
  -H 'X-Simulate: rate_limited' \
  -d '{"message": "Hello!", "session_id": "visitor-1"}'
""",
    ),
)

_JAVASCRIPT = (
    _Form(
        "chat",
        "Ask, with retries and errors",
        "chat.mjs",
        "The key of idempotency stays the same for every try, so a message is paid once.",
        r"""
// Runs in your backend (Node 18 or newer), never in a page.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const API_URL = "«BASE_URL»/api";
const API_KEY = "«API_KEY»"; // keep it in an environment variable

async function ask(message, sessionId, page = {}) {
  const idempotencyKey = randomUUID();
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(`${API_URL}/chat`, {
      method: "POST",
      headers: {
        "X-API-Key": API_KEY,
        "Content-Type": "application/json",
        "Idempotency-Key": idempotencyKey,
      },
      body: JSON.stringify({ message, session_id: sessionId, metadata: page }),
      signal: AbortSignal.timeout(90_000),
    });
    const answer = await response.json();
    if (response.ok) return answer.reply;

    const wait = Number(response.headers.get("Retry-After") ?? attempt);
    const mayPass =
      [409, 429, 500, 503].includes(response.status) &&
      response.headers.get("X-Should-Retry") !== "false";
    if (mayPass && attempt < 3 && wait <= 30) {
      await sleep(wait * 1000);
      continue;
    }
    console.error(`${response.status} ${answer.code}: ${answer.error} (${answer.request_id})`);
    return answer.fallback_reply ?? "Sorry, I cannot answer right now.";
  }
}

// One session id for each visitor, made by your backend: it is one conversation.
const sessionId = `visitor-${randomUUID()}`;
const page = { url: "https://example.com/pricing", title: "Pricing" };
console.log(await ask("Hello! What can you do?", sessionId, page));
console.log(await ask("Tell me more.", sessionId, page));
""",
    ),
    _Form(
        "stream",
        "Ask, word by word",
        "stream.mjs",
        "What fails before the first word is a plain JSON error; later, an error event.",
        r"""
// Runs in your backend (Node 18 or newer), never in a page.
import { randomUUID } from "node:crypto";

const response = await fetch("«BASE_URL»/api/chat", {
  method: "POST",
  headers: { "X-API-Key": "«API_KEY»", "Content-Type": "application/json" },
  body: JSON.stringify({
    message: "Hello! What can you do?",
    session_id: `visitor-${randomUUID()}`,
    stream: true,
  }),
});
if (!response.ok) {
  const problem = await response.json();
  throw new Error(`${response.status} ${problem.code}: ${problem.error}`);
}

let buffer = "";
for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
  buffer += chunk;
  const events = buffer.split("\n\n");
  buffer = events.pop(); // not whole yet
  for (const event of events) {
    // Comment lines, which keep silent connections open, have no data.
    const [, name, json] = event.match(/^event: (.*)\ndata: (.*)$/) ?? [];
    const data = json && JSON.parse(json);
    if (name === "delta") process.stdout.write(data.text);
    if (name === "error") throw new Error(`${data.code}: ${data.error}`);
    if (name === "done") console.log(`\n\n${data.credits.charged} credits`);
  }
}
""",
    ),
    _Form(
        "history",
        "Read and erase a conversation",
        "history.mjs",
        "Costs nothing. What is erased is gone for good.",
        r"""
// Runs in your backend (Node 18 or newer), never in a page.
const url = `«BASE_URL»/api/history?session_id=${encodeURIComponent("visitor-1")}`;
const headers = { "X-API-Key": "«API_KEY»" };

const response = await fetch(url, { headers });
const answer = await response.json();
if (!response.ok) throw new Error(`${response.status} ${answer.code}: ${answer.error}`);
for (const { role, content, created_at } of answer.messages) {
  console.log(`${created_at} ${role}: ${content}`);
}

const erased = await fetch(url, { method: "DELETE", headers });
console.log("erased:", erased.status === 204);
""",
    ),
)

_PYTHON = (
    _Form(
        "chat",
        "Ask, with retries and errors",
        "chat.py",
        "The key of idempotency stays the same for every try, so a message is paid once.",
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
    _Form(
        "stream",
        "Ask, word by word",
        "stream.py",
        "What fails before the first word is a plain JSON error; later, an error event.",
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
    _Form(
        "history",
        "Read and erase a conversation",
        "history.py",
        "Costs nothing. What is erased is gone for good.",
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

_PHP = (
    _Form(
        "chat",
        "Ask, with retries and errors",
        "chat.php",
        "The key of idempotency stays the same for every try, so a message is paid once.",
        r"""
<?php
// PHP 8 with the curl extension.
const API_URL = '«BASE_URL»/api';
const API_KEY = '«API_KEY»'; // keep it in an environment variable

function ask(string $message, string $sessionId, array $page = []): string
{
    $idempotencyKey = bin2hex(random_bytes(16));
    for ($attempt = 1; ; $attempt++) {
        $headers = [];
        $request = curl_init(API_URL . '/chat');
        curl_setopt_array($request, [
            CURLOPT_HTTPHEADER => [
                'X-API-Key: ' . API_KEY,
                'Content-Type: application/json',
                'Idempotency-Key: ' . $idempotencyKey,
            ],
            CURLOPT_POSTFIELDS => json_encode([
                'message' => $message,
                'session_id' => $sessionId,
                'metadata' => (object) $page,
            ]),
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_TIMEOUT => 90,
            CURLOPT_HEADERFUNCTION => function ($request, string $line) use (&$headers): int {
                [$name, $value] = explode(':', $line, 2) + [1 => ''];
                $headers[strtolower($name)] = trim($value);
                return strlen($line);
            },
        ]);
        $body = curl_exec($request);
        if ($body === false) {
            throw new RuntimeException(curl_error($request));
        }
        $status = curl_getinfo($request, CURLINFO_RESPONSE_CODE);
        $answer = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
        if ($status === 200) {
            return $answer['reply'];
        }
        $wait = (int) ($headers['retry-after'] ?? $attempt);
        $mayPass = in_array($status, [409, 429, 500, 503], true)
            && ($headers['x-should-retry'] ?? '') !== 'false';
        if (!$mayPass || $wait > 30 || $attempt === 3) {
            error_log("$status {$answer['code']}: {$answer['error']} ({$answer['request_id']})");
            return $answer['fallback_reply'] ?? 'Sorry, I cannot answer right now.';
        }
        sleep($wait);
    }
}

// One session id for each visitor, made by your backend: it is one conversation.
$sessionId = 'visitor-' . bin2hex(random_bytes(16));
$page = ['url' => 'https://example.com/pricing', 'title' => 'Pricing'];
echo ask('Hello! What can you do?', $sessionId, $page), "\n";
echo ask('Tell me more.', $sessionId, $page), "\n";
""",
    ),
    _Form(
        "stream",
        "Ask, word by word",
        "stream.php",
        "What fails before the first word is a plain JSON error; later, an error event.",
        r"""
<?php
// PHP 8 with the curl extension.
$buffer = '';
$request = curl_init('«BASE_URL»/api/chat');
curl_setopt_array($request, [
    CURLOPT_HTTPHEADER => ['X-API-Key: «API_KEY»', 'Content-Type: application/json'],
    CURLOPT_POSTFIELDS => json_encode([
        'message' => 'Hello! What can you do?',
        'session_id' => 'visitor-' . bin2hex(random_bytes(16)),
        'stream' => true,
    ]),
    CURLOPT_WRITEFUNCTION => function ($request, string $chunk) use (&$buffer): int {
        $buffer .= $chunk;
        if (curl_getinfo($request, CURLINFO_RESPONSE_CODE) !== 200) {
            return strlen($chunk);
        }
        $events = explode("\n\n", $buffer);
        $buffer = array_pop($events); // not whole yet
        foreach ($events as $event) {
            // Comment lines, which keep silent connections open, have no data.
            if (!preg_match('/^event: (.*)\ndata: (.*)$/', $event, $found)) {
                continue;
            }
            $data = json_decode($found[2], true);
            if ($found[1] === 'delta') {
                echo $data['text'];
                flush();
            } elseif ($found[1] === 'done') {
                echo "\n\n{$data['credits']['charged']} credits\n";
            } else {
                error_log("{$data['code']}: {$data['error']}");
            }
        }
        return strlen($chunk);
    },
]);
if (curl_exec($request) === false) {
    throw new RuntimeException(curl_error($request));
}
$status = curl_getinfo($request, CURLINFO_RESPONSE_CODE);
if ($status !== 200) {
    $problem = json_decode($buffer, true);
    throw new RuntimeException("$status {$problem['code']}: {$problem['error']}");
}
""",
    ),
    _Form(
        "history",
        "Read and erase a conversation",
        "history.php",
        "Costs nothing. What is erased is gone for good.",
        r"""
<?php
// PHP 8 with the curl extension.
function send(string $method): array
{
    $query = http_build_query(['session_id' => 'visitor-1']);
    $request = curl_init('«BASE_URL»/api/history?' . $query);
    curl_setopt_array($request, [
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => ['X-API-Key: «API_KEY»'],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 30,
    ]);
    $body = curl_exec($request);
    return [curl_getinfo($request, CURLINFO_RESPONSE_CODE), json_decode((string) $body, true)];
}

[$status, $answer] = send('GET');
if ($status !== 200) {
    throw new RuntimeException("$status " . ($answer['error'] ?? 'no answer'));
}
foreach ($answer['messages'] as $message) {
    echo "{$message['created_at']} {$message['role']}: {$message['content']}\n";
}

[$status] = send('DELETE');
echo 'erased: ', $status === 204 ? 'true' : 'false', "\n";
""",
    ),
)

_OPENAI_PYTHON = (
    _Form(
        "chat",
        "Ask",
        "openai_chat.py",
        "Send the conversation each time: nothing is remembered under /v1.",
        r"""
import uuid

import openai

client = openai.OpenAI(base_url="«BASE_URL»/v1", api_key="«API_KEY»")

messages = [{"role": "user", "content": "Hello! What can you do?"}]
try:
    completion = client.chat.completions.create(
        model="«MODEL»",
        messages=messages,
        # The client tries again by itself; with this, a message is paid once.
        extra_headers={"Idempotency-Key": str(uuid.uuid4())},
    )
except openai.APIStatusError as error:
    raise SystemExit(f"{error.status_code} {error.code}: {error.message} ({error.request_id})")
print(completion.choices[0].message.content)
print(completion.usage.total_tokens, "tokens")
""",
    ),
    _Form(
        "stream",
        "Ask, word by word",
        "openai_stream.py",
        "A stream that breaks off raises APIError and costs nothing.",
        r"""
import openai

client = openai.OpenAI(base_url="«BASE_URL»/v1", api_key="«API_KEY»")

try:
    stream = client.chat.completions.create(
        model="«MODEL»",
        messages=[{"role": "user", "content": "Hello! What can you do?"}],
        stream=True,
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
except openai.APIError as error:
    raise SystemExit(f"{error.code}: {error.message}")
print()
""",
    ),
)

_OPENAI_NODE = (
    _Form(
        "chat",
        "Ask",
        "openai_chat.mjs",
        "Send the conversation each time: nothing is remembered under /v1.",
        r"""
// Runs in your backend, never in a page.
import { randomUUID } from "node:crypto";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "«BASE_URL»/v1", apiKey: "«API_KEY»" });

try {
  const completion = await client.chat.completions.create(
    {
      model: "«MODEL»",
      messages: [{ role: "user", content: "Hello! What can you do?" }],
    },
    // The client tries again by itself; with this, a message is paid once.
    { headers: { "Idempotency-Key": randomUUID() } },
  );
  console.log(completion.choices[0].message.content);
  console.log(completion.usage.total_tokens, "tokens");
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  console.error(`${error.status} ${error.code}: ${error.message} (${error.requestID})`);
  process.exitCode = 1;
}
""",
    ),
    _Form(
        "stream",
        "Ask, word by word",
        "openai_stream.mjs",
        "A stream that breaks off throws APIError and costs nothing.",
        r"""
// Runs in your backend, never in a page.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "«BASE_URL»/v1", apiKey: "«API_KEY»" });

const stream = await client.chat.completions.create({
  model: "«MODEL»",
  messages: [{ role: "user", content: "Hello! What can you do?" }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0].delta.content ?? "");
}
console.log();
""",
    ),
)

# Id, title, what it needs, snippets.
_LANGUAGES: tuple[tuple[str, str, str, tuple[_Form, ...]], ...] = (
    ("curl", "cURL", "For a terminal, to try things out.", _CURL),
    ("javascript", "JavaScript", "Node 18 or newer; nothing to install.", _JAVASCRIPT),
    ("python", "Python", "pip install requests", _PYTHON),
    ("php", "PHP", "PHP 8 with the curl extension.", _PHP),
    ("openai-python", "OpenAI SDK, Python", "pip install openai", _OPENAI_PYTHON),
    ("openai-node", "OpenAI SDK, Node", "npm install openai", _OPENAI_NODE),
)

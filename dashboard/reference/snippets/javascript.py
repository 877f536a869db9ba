"""JavaScript, with fetch."""

from __future__ import annotations

from django.utils.translation import gettext_noop

from dashboard.reference.snippets.form import Form

JAVASCRIPT = (
    Form(
        "chat",
        gettext_noop("Ask, with retries and errors"),
        "chat.mjs",
        gettext_noop("Every try sends the same Idempotency-Key, so a message is charged once."),
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
    Form(
        "stream",
        gettext_noop("Stream the answer"),
        "stream.mjs",
        gettext_noop(
            "A failure before the first word is a plain JSON error; later it is an error event."
        ),
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
    Form(
        "history",
        gettext_noop("Read and erase a conversation"),
        "history.mjs",
        gettext_noop("Costs nothing. Erased text is gone for good."),
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

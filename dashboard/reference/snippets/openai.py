"""OpenAI's own clients, pointed at /v1."""

from __future__ import annotations

from django.utils.translation import gettext_noop

from dashboard.reference.snippets.form import Form

PYTHON = (
    Form(
        "chat",
        gettext_noop("Ask"),
        "openai_chat.py",
        gettext_noop("Send the whole conversation each time: /v1 remembers nothing."),
        r"""
import uuid

import openai

client = openai.OpenAI(base_url="«BASE_URL»/v1", api_key="«API_KEY»")

messages = [{"role": "user", "content": "Hello! What can you do?"}]
try:
    completion = client.chat.completions.create(
        model="«MODEL»",
        messages=messages,
        # The client retries by itself; this header makes sure a message is charged once.
        extra_headers={"Idempotency-Key": str(uuid.uuid4())},
    )
except openai.APIStatusError as error:
    raise SystemExit(f"{error.status_code} {error.code}: {error.message} ({error.request_id})")
print(completion.choices[0].message.content)
print(completion.usage.total_tokens, "tokens")
""",
    ),
    Form(
        "stream",
        gettext_noop("Stream the answer"),
        "openai_stream.py",
        gettext_noop("A stream that breaks off raises APIError and costs nothing."),
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

NODE = (
    Form(
        "chat",
        gettext_noop("Ask"),
        "openai_chat.mjs",
        gettext_noop("Send the whole conversation each time: /v1 remembers nothing."),
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
    // The client retries by itself; this header makes sure a message is charged once.
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
    Form(
        "stream",
        gettext_noop("Stream the answer"),
        "openai_stream.mjs",
        gettext_noop("A stream that breaks off throws APIError and costs nothing."),
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

// Runs the official npm client's `responses` against this gateway, as scripted by
// test_responses_npm.py. A failed check ends this program with a message.
import assert from "node:assert/strict";
import OpenAI, { BadRequestError } from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const { BASE_URL: baseURL, LIVE_KEY: apiKey } = process.env;
const model = "llama-3.3-70b-versatile";
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const tools = [
  { type: "function", name: "weather", parameters: { type: "object" }, strict: false },
];

// Plain.
const plain = await client.responses.create({ model, input: "Hello!", store: false });
assert.equal(plain.output_text, "Hello to you");
assert.equal(plain.status, "completed");
assert.deepEqual([plain.usage.input_tokens, plain.usage.total_tokens], [7, 11]);
assert.match(plain.id, /^resp_[0-9a-f]{32}$/);

// Streamed with reasoning, and assembled by the client.
const pieces = [];
const thoughts = [];
const stream = client.responses
  .stream({ model, input: "Hello!" })
  .on("response.output_text.delta", (event) => pieces.push(event.delta))
  .on("response.reasoning_text.delta", (event) => thoughts.push(event.delta));
const streamed = await stream.finalResponse();
assert.deepEqual(pieces, ["One ", "two ", "three "]);
assert.deepEqual(thoughts, ["Hm."]);
assert.equal(streamed.output_text, "One two three");
assert.deepEqual(
  streamed.output.map((item) => item.type),
  ["reasoning", "message"],
);

// Tools in two steps: the model's output goes back unchanged.
for (const ask of [
  (body) => client.responses.create(body),
  (body) => client.responses.stream(body).finalResponse(),
]) {
  const input = [{ role: "user", content: "How is Lima?" }];
  const first = await ask({ model, input, tools });
  const call = first.output.find((item) => item.type === "function_call");
  assert.deepEqual([call.name, call.arguments], ["weather", '{"city":"Lima"}']);
  input.push(...first.output);
  input.push({ type: "function_call_output", call_id: call.call_id, output: "sunny" });
  assert.equal((await ask({ model, input, tools })).output_text, "Sunny");
}

// Structured output.
const format = zodTextFormat(z.object({ city: z.string() }), "weather");
const parsed = await client.responses.parse({ model, input: "Where?", text: { format } });
assert.deepEqual(parsed.output_parsed, { city: "Lima" });

// A stream that breaks off.
let last;
for await (last of await client.responses.create({ model, input: "Hello!", stream: true }));
assert.equal(last.type, "response.failed");
assert.equal(last.response.error.code, "provider_error");

// Requests that need stored state.
for (const more of [{ store: true }, { previous_response_id: "resp_1" }]) {
  const error = await client.responses.create({ model, input: "Hello!", ...more }).then(
    () => assert.fail("This was to fail."),
    (reason) => reason,
  );
  assert.ok(error instanceof BadRequestError);
  assert.equal(error.param, Object.keys(more)[0]);
}

console.log("all is well");

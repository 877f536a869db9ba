// Runs Vercel's AI SDK against this gateway, as scripted by test_sdk_others.py.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, streamText, tool } from "ai";

const { BASE_URL: baseURL, LIVE_KEY, TEST_KEY } = process.env;
const modelId = "llama-3.3-70b-versatile";
const prompt = "Hello!";

function model(apiKey, { simulate, id = modelId } = {}) {
  const headers = simulate ? { "X-Simulate": simulate } : {};
  const provider = { name: "gateway", baseURL, apiKey, headers, includeUsage: true };
  return createOpenAICompatible(provider)(id);
}

const live = model(LIVE_KEY);
const counts = ({ inputTokens, outputTokens, totalTokens }) => [
  inputTokens,
  outputTokens,
  totalTokens,
];

// Plain.
const plain = await generateText({ model: live, prompt });
assert.equal(plain.text, "Hello to you");
assert.equal(plain.finishReason, "stop");
assert.deepEqual(counts(plain.usage), [7, 4, 11]);
assert.equal(plain.response.modelId, modelId);

// Streaming with usage.
const stream = streamText({ model: live, prompt });
const pieces = [];
for await (const piece of stream.textStream) pieces.push(piece);
assert.equal(pieces.length, 3);
assert.equal(pieces.join("").trim(), "One two three");
assert.deepEqual(counts(await stream.usage), [10, 5, 15]);

// Tools.
const weather = tool({
  inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } } }),
});
const called = await generateText({ model: live, prompt, tools: { weather } });
assert.equal(called.finishReason, "tool-calls");
assert.deepEqual(called.toolCalls[0].input, { city: "Lima" });

// A stream that breaks off yields one part of type error.
const errors = [];
for await (const part of streamText({ model: live, prompt, onError: () => {} }).fullStream) {
  if (part.type === "error") errors.push(part.error);
}
assert.equal(errors.length, 1);
assert.match(String(errors[0].message ?? errors[0]), /broke off/);

// Errors have a status, a code, and say whether a retry can help.
const failing = [
  [model("wrong"), 401, "invalid_api_key", false],
  [model(LIVE_KEY, { id: "gpt-4o" }), 404, "model_not_found", false],
  [model(TEST_KEY, { simulate: "credits_exhausted" }), 402, "credits_exhausted", false],
  [model(TEST_KEY, { simulate: "rate_limited" }), 429, "rate_limited", true],
  [model(TEST_KEY, { simulate: "provider_error" }), 502, "provider_error", true],
];
for (const [failingModel, status, code, isRetryable] of failing) {
  const error = await generateText({ model: failingModel, prompt, maxRetries: 0 }).then(
    () => assert.fail("This was to fail."),
    (reason) => reason,
  );
  assert.ok(APICallError.isInstance(error), `${code}: ${error}`);
  assert.deepEqual([error.statusCode, error.isRetryable], [status, isRetryable], code);
  assert.equal(JSON.parse(error.responseBody).error.code, code);
}

// Transient errors are retried.
const second = await generateText({ model: live, prompt });
assert.equal(second.text, "at last");

console.log("all is well");

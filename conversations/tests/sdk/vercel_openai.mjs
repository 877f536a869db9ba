// Runs Vercel's AI SDK with createOpenAI, which speaks /v1/responses by default, as scripted by
// test_responses_npm.py.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import {
  APICallError,
  generateObject,
  generateText,
  jsonSchema,
  stepCountIs,
  streamText,
  tool,
} from "ai";

const warnings = [];
globalThis.AI_SDK_LOG_WARNINGS = (told) => warnings.push(...told.warnings);

const { BASE_URL: baseURL, LIVE_KEY: apiKey, TEST_KEY } = process.env;
const modelId = "llama-3.3-70b-versatile";
const model = createOpenAI({ baseURL, apiKey })(modelId);
const prompt = "Hello!";
const counts = ({ inputTokens, outputTokens, totalTokens }) => [
  inputTokens,
  outputTokens,
  totalTokens,
];
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = tool({
  description: "The weather of a city",
  inputSchema: jsonSchema({ ...city, additionalProperties: false }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const stateless = { openai: { store: false } };

// Plain.
const plain = await generateText({ model, prompt, system: "Be kind." });
assert.equal(plain.text, "Hello to you");
assert.equal(plain.finishReason, "stop");
assert.deepEqual(counts(plain.usage), [7, 4, 11]);
assert.equal(plain.response.modelId, modelId);

// Streamed.
const stream = streamText({ model, prompt });
const pieces = [];
for await (const piece of stream.textStream) pieces.push(piece);
assert.deepEqual(pieces, ["One ", "two ", "three "]);
assert.deepEqual(counts(await stream.usage), [10, 5, 15]);
assert.equal(await stream.finishReason, "stop");

// Function calls in several steps, plain and streamed, with default options.
const steps = { model, prompt, tools: { weather }, stopWhen: stepCountIs(5) };
const stepped = await generateText(steps);
assert.equal(stepped.text, "Sunny");
assert.equal(stepped.steps.length, 3);
const steppedStream = streamText(steps);
assert.equal((await steppedStream.text).trim(), "Sunny");
assert.equal((await steppedStream.steps).length, 3);

// An object.
const { object } = await generateObject({ model, prompt, schema: jsonSchema(city) });
assert.deepEqual(object, { city: "Lima" });

// Several turns: the SDK sends its own earlier answers as text if it is told to.
const messages = [];
for (const [turn, text] of ["One", "Two", "Three"].entries()) {
  messages.push({ role: "user", content: `Turn ${turn}` });
  const ask = turn === 1 ? streamText : generateText;
  const answer = await ask({ model, messages, tools: { weather }, providerOptions: stateless });
  assert.equal((await answer.text).trim(), text);
  messages.push(...(await answer.response).messages);
}

// The same with text, reasoning and a call in one step.
const mixed = await generateText({ ...steps, providerOptions: stateless });
assert.equal(mixed.text, "Sunny again");
assert.equal(mixed.steps.length, 2);

// Otherwise it refers to them by id, and the gateway says what to do.
const failure = (promise) =>
  promise.then(
    () => assert.fail("This was to fail."),
    (reason) => reason,
  );
const referring = await failure(generateText({ model, messages, maxRetries: 0 }));
assert.ok(APICallError.isInstance(referring), String(referring));
assert.deepEqual([referring.statusCode, referring.isRetryable], [400, false]);
assert.match(referring.message, /providerOptions\.openai\.store: false/);

// A stream that breaks off yields one part of type error.
const errors = [];
for await (const part of streamText({ model, prompt, onError: () => {} }).fullStream) {
  if (part.type === "error") errors.push(part.error);
}
assert.equal(errors.length, 1);
assert.match(String(errors[0].message ?? errors[0]), /broke off/);

// Errors have a status, a code, and say whether a retry can help.
const simulating = (what) =>
  createOpenAI({ baseURL, apiKey: TEST_KEY, headers: { "X-Simulate": what } })(modelId);
const failing = [
  [createOpenAI({ baseURL, apiKey: "wrong" })(modelId), 401, "invalid_api_key", false],
  [createOpenAI({ baseURL, apiKey })("gpt-4o"), 404, "model_not_found", false],
  [simulating("credits_exhausted"), 402, "credits_exhausted", false],
  [simulating("provider_error"), 502, "provider_error", true],
];
for (const [failingModel, status, code, isRetryable] of failing) {
  const error = await failure(generateText({ model: failingModel, prompt, maxRetries: 0 }));
  assert.ok(APICallError.isInstance(error), `${code}: ${error}`);
  assert.deepEqual([error.statusCode, error.isRetryable], [status, isRetryable], code);
  assert.equal(JSON.parse(error.responseBody).error.code, code);
}

// Only the reasoning of the mixed step was left out: the SDK sends only encrypted reasoning.
assert.equal(warnings.length, 1);
assert.match(warnings[0].message, /Reasoning parts without encrypted content/);

console.log("all is well");

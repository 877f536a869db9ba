// Runs the official npm client against this gateway. test_openai_npm.py scripts what the provider
// says and how often. A failed check ends this program with a message.
import assert from "node:assert/strict";
import OpenAI, {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from "openai";

const { BASE_URL: baseURL, LIVE_KEY, TEST_KEY } = process.env;
const model = "llama-3.3-70b-versatile";
const messages = [{ role: "user", content: "Hello!" }];
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
const live = new OpenAI({ baseURL, apiKey: LIVE_KEY });

function simulating(what, options = {}) {
  return new OpenAI({
    baseURL,
    apiKey: TEST_KEY,
    defaultHeaders: { "X-Simulate": what },
    ...options,
  });
}

async function failure(promise) {
  return promise.then(
    () => assert.fail("This was to fail."),
    (error) => error,
  );
}

async function timed(promise) {
  const started = performance.now();
  const error = await failure(promise);
  return { error, seconds: (performance.now() - started) / 1000 };
}

// Models, a plain answer, and its headers.
const ids = [];
for await (const found of live.models.list()) ids.push(found.id);
assert.ok(ids.includes(model));
const { data: plain, response } = await live.chat.completions
  .create({ model, messages })
  .withResponse();
assert.equal(plain.choices[0].message.content, "Hello to you");
assert.equal(plain.model, model);
assert.deepEqual(plain.usage, { prompt_tokens: 7, completion_tokens: 4, total_tokens: 11 });
assert.match(plain.id, /^chatcmpl-[0-9a-f]{32}$/);
assert.ok(plain._request_id);
assert.equal(response.headers.get("x-gateway-provider"), "fake");

// Streaming with usage.
const pieces = [];
let usage;
for await (const chunk of await live.chat.completions.create({
  model,
  messages,
  stream: true,
  stream_options: { include_usage: true },
})) {
  pieces.push(chunk.choices[0]?.delta?.content ?? "");
  usage = chunk.usage ?? usage;
}
assert.equal(pieces.join("").trim(), "One two three");
assert.equal(usage.total_tokens, 15);

// Tools: in a plain answer, and assembled from a stream by the client.
const called = await live.chat.completions.create({ model, messages, tools });
assert.equal(called.choices[0].finish_reason, "tool_calls");
assert.equal(called.choices[0].message.content, null);
assert.equal(called.choices[0].message.tool_calls[0].function.arguments, '{"city":"Lima"}');
const streamed = await live.chat.completions.stream({ model, messages, tools }).finalChatCompletion();
assert.deepEqual(
  streamed.choices[0].message.tool_calls[0].function.name,
  called.choices[0].message.tool_calls[0].function.name,
);

// A stream that breaks off raises an error during the iteration.
const breaking = await live.chat.completions.create({ model, messages, stream: true });
const broken = await failure(
  (async () => {
    for await (const chunk of breaking) assert.ok(chunk.choices);
  })(),
);
assert.ok(broken instanceof APIError);
assert.equal(broken.code, "provider_error");

// Every error has the class that OpenAI's own errors have. Final errors are not retried.
const wrongKey = new OpenAI({ baseURL, apiKey: "wrong" });
const asking = (client, more = {}) => () =>
  client.chat.completions.create({ model, messages, ...more });
const finals = [
  [() => wrongKey.models.list(), AuthenticationError, 401, "invalid_api_key"],
  [asking(live, { messages: [] }), BadRequestError, 400, "invalid_request"],
  [asking(live, { model: "gpt-4o" }), NotFoundError, 404, "model_not_found"],
  [asking(simulating("site_disabled")), PermissionDeniedError, 403, "site_disabled"],
  [asking(simulating("credits_exhausted")), APIError, 402, "credits_exhausted"],
  [asking(simulating("daily_quota_reached")), RateLimitError, 429, "daily_quota_reached"],
];
for (const [ask, type, status, code] of finals) {
  const { error, seconds } = await timed(ask());
  assert.ok(error instanceof type, `${code}: ${error}`);
  assert.deepEqual([error.status, error.code], [status, code]);
  assert.ok(error.requestID);
  assert.ok(seconds < 0.4, `${code} was tried again`);
}

// Transient errors are retried: what fails twice succeeds at the third try.
const once = await failure(asking(simulating("provider_error", { maxRetries: 0 }))());
assert.ok(once instanceof InternalServerError);
assert.deepEqual([once.status, once.code], [502, "provider_error"]);
const third = await live.chat.completions.create({ model, messages });
assert.equal(third.choices[0].message.content, "at last");

console.log("all is well");

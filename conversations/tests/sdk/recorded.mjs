// Plays recorded shapes through OpenAI's npm client at each of two addresses, and prints what the
// client shows of them. test_recorded_sdk.py reads that and compares.
import { readFileSync } from "node:fs";
import OpenAI, { APIError } from "openai";

const { CASES, DIRECT_URL, GATEWAY_URL, LIVE_KEY } = process.env;
const clients = [DIRECT_URL, GATEWAY_URL].map(
  (baseURL) => new OpenAI({ baseURL, apiKey: LIVE_KEY, maxRetries: 0 }),
);

async function play(client, { body, isStream }) {
  try {
    if (!isStream) return { whole: await client.chat.completions.create(body) };
    const options = { stream: true, stream_options: { include_usage: true } };
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...body, ...options })) {
      chunks.push(chunk);
    }
    return { chunks };
  } catch (error) {
    const { status = null, code = null, param = null } = error;
    const name = error.constructor.name;
    return { error: { class: name, status: error instanceof APIError ? status : null, code, param } };
  }
}

const played = [];
for (const one of JSON.parse(readFileSync(CASES, "utf8"))) {
  played.push([await play(clients[0], one), await play(clients[1], one)]);
}
console.log(JSON.stringify(played));

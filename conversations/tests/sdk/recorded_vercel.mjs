// Plays recorded shapes through Vercel's AI SDK at each of two addresses, and prints what it shows
// of them. test_recorded_sdk.py reads that and compares.
import { readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, streamText, tool } from "ai";

const { CASES, DIRECT_URL, GATEWAY_URL, LIVE_KEY } = process.env;
const providers = [DIRECT_URL, GATEWAY_URL].map((baseURL) =>
  createOpenAICompatible({ name: "recorded", baseURL, apiKey: LIVE_KEY, includeUsage: true }),
);

function toolsOf(body) {
  const described = (body.tools ?? []).map(({ function: { name, description, parameters } }) => [
    name,
    tool({ description, inputSchema: jsonSchema(parameters) }),
  ]);
  return described.length ? Object.fromEntries(described) : undefined;
}

function outcome({ text, reasoning, finishReason, toolCalls, usage }) {
  return {
    text,
    reasoning: reasoning || "",
    finish_reason: finishReason,
    tool_calls: toolCalls.map(({ toolCallId, toolName, input }) => ({
      id: toolCallId,
      name: toolName,
      arguments: input,
    })),
    usage: {
      input: usage.inputTokens,
      output: usage.outputTokens,
      total: usage.totalTokens,
      cached: usage.cachedInputTokens || 0,
      reasoning: usage.reasoningTokens || 0,
    },
  };
}

function failure(error) {
  const known = APICallError.isInstance(error);
  const status = known ? (error.statusCode ?? null) : null;
  // Without a status, or with 200, the client could not read the answer.
  return { class: error.name, status: status === 200 ? null : status };
}

async function whole(options) {
  const { text, reasoningText, finishReason, toolCalls, usage } = await generateText(options);
  return outcome({ text, reasoning: reasoningText, finishReason, toolCalls, usage });
}

async function streamed(options) {
  const said = { text: "", reasoning: "", toolCalls: [] };
  for await (const part of streamText({ ...options, onError: () => {} }).fullStream) {
    if (part.type === "text-delta") said.text += part.text;
    if (part.type === "reasoning-delta") said.reasoning += part.text;
    if (part.type === "tool-call") said.toolCalls.push(part);
    if (part.type === "error") return failure(part.error);
    if (part.type === "finish") {
      said.finishReason = part.finishReason;
      said.usage = part.totalUsage;
    }
  }
  return outcome(said);
}

async function play(provider, { body, isStream }) {
  const prompt = body.messages[0].content;
  const options = { model: provider(body.model), prompt, tools: toolsOf(body), maxRetries: 0 };
  try {
    return await (isStream ? streamed(options) : whole(options));
  } catch (error) {
    return failure(error);
  }
}

const played = [];
for (const one of JSON.parse(readFileSync(CASES, "utf8"))) {
  played.push([await play(providers[0], one), await play(providers[1], one)]);
}
console.log(JSON.stringify(played));

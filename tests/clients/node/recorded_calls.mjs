// Asks the recording server what openai and Vercel's AI SDK ask, each call after its title.
// node recorded_calls.mjs URL; prints the versions of both packages as JSON.
import { readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const url = process.argv[2];
const model = "MODEL";
const messages = [{ role: "user", content: "Name a colour of the rainbow." }];
const Colour = z.object({ name: z.string(), warm: z.boolean() });
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

async function drain(stream) {
  for await (const _ of stream) {
    // only what is sent matters
  }
}

async function make(client, title, call) {
  const body = JSON.stringify({ client, title });
  const headers = { "content-type": "application/json" };
  await fetch(`${url}/title`, { method: "POST", body, headers });
  await call();
}

async function callWithOpenAI() {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  const { completions } = client.chat;
  const asked = { model, messages };
  const tools = [{ type: "function", function: { name: "weather", parameters } }];
  const response_format = zodResponseFormat(Colour, "colour");
  const calls = {
    models: async () => drain(client.models.list()),
    chat: () => completions.create(asked),
    "chat, streamed": async () => drain(await completions.create({ ...asked, stream: true })),
    "chat, stream helper": () => completions.stream(asked).finalContent(),
    "chat, parsed": () => completions.parse({ ...asked, response_format }),
    "chat, tools": () => completions.create({ ...asked, tools }),
    completion: () => client.completions.create({ model, prompt: "One, two," }),
    response: () => client.responses.create({ model, input: "Name a colour." }),
    "response, streamed": async () =>
      drain(await client.responses.create({ model, input: "Name a colour.", stream: true })),
  };
  for (const [title, call] of Object.entries(calls)) {
    await make("openai-node", title, call);
  }
}

async function callWithAISDK() {
  const options = { name: "infermesh", baseURL: `${url}/v1` };
  const provider = createOpenAICompatible({ ...options, includeUsage: true });
  const structured = createOpenAICompatible({ ...options, supportsStructuredOutputs: true });
  const asked = { model: provider(model), messages, maxRetries: 0 };
  const typed = { model: structured(model), messages, maxRetries: 0, schema: Colour };
  const weather = tool({
    description: "Tells the weather in a city.",
    inputSchema: jsonSchema(parameters),
    execute: ({ city }) => `It is sunny in ${city}.`,
  });
  const calls = {
    generateText: () => generateText(asked),
    streamText: () => drain(streamText(asked).textStream),
    "generateText with a tool": () => generateText({ ...asked, tools: { weather }, stopWhen: stepCountIs(2) }),
    "generateObject with a schema": () => generateObject(typed),
    "generateObject without one": () => generateObject({ ...asked, schema: Colour }),
    streamObject: () => drain(streamObject(typed).partialObjectStream),
    completionModel: () =>
      generateText({ model: provider.completionModel(model), prompt: "One, two,", maxRetries: 0 }),
  };
  for (const [title, call] of Object.entries(calls)) {
    await make("vercel-ai-sdk", title, call);
  }
}

function versionOf(name) {
  return JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8")).version;
}

globalThis.AI_SDK_LOG_WARNINGS = false;
await callWithOpenAI();
await callWithAISDK();
console.log(JSON.stringify({ openai: versionOf("openai"), "@ai-sdk/openai-compatible": versionOf("@ai-sdk/openai-compatible") }));

// Asks for streams of a model that loads slowly with the Node openai package and Vercel's AI SDK, all at once; prints
// one JSON document of the texts.
// node slow_load.mjs URL MODEL
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";
import OpenAI from "openai";

const [url, model] = process.argv.slice(2);
const messages = [{ role: "user", content: "hi" }];
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0, timeout: 20_000 });
const provider = createOpenAICompatible({ name: "mesh", baseURL: `${url}/v1`, apiKey: "any" });

async function join(stream, textOf) {
  let text = "";
  for await (const chunk of await stream) text += textOf(chunk) ?? "";
  return text;
}

const [chat, completion, responses, ai] = await Promise.all([
  join(client.chat.completions.create({ model, messages, stream: true }), (chunk) => chunk.choices[0]?.delta?.content),
  join(client.completions.create({ model, prompt: "hi", stream: true }), (chunk) => chunk.choices[0]?.text),
  join(client.responses.create({ model, input: "hi", stream: true }), (event) =>
    event.type === "response.output_text.delta" ? event.delta : ""),
  join(streamText({ model: provider(model), messages }).textStream, (text) => text),
]);
console.log(JSON.stringify({ chat, completion, responses, ai }));

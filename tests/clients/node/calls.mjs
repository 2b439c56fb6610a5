// Calls the mesh with the Node openai package and Vercel's AI SDK; prints one JSON document of what came back.
// node calls.mjs URL_FOR_OPENAI URL_FOR_AI_SDK MODEL
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamObject, streamText } from "ai";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [openaiUrl, aiUrl, model] = process.argv.slice(2);
const messages = [{ role: "user", content: "Name a colour of the rainbow." }];
const Colour = z.object({ name: z.string(), warm: z.boolean() });

async function nameOf(promise) {
  try {
    await promise;
    return "no error";
  } catch (error) {
    return [error.constructor.name, error.status ?? error.statusCode ?? null, error.param ?? null];
  }
}

async function callWithOpenAI() {
  const client = new OpenAI({ baseURL: `${openaiUrl}/v1`, apiKey: "any", maxRetries: 1, timeout: 60_000 });
  const asked = { model, messages, max_tokens: 24, temperature: 0 };
  const found = {};
  found.models = (await client.models.list()).data.map((each) => each.id);
  found.model = (await client.models.retrieve(model)).id;
  found.chat = (await client.chat.completions.create(asked)).choices[0].message.content;
  found.streamed = "";
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
    found.streamed += chunk.choices[0]?.delta?.content ?? "";
  }
  found.helper = await client.chat.completions.stream(asked).finalContent();
  const parsed = await client.chat.completions.parse({
    ...asked,
    max_tokens: 64,
    response_format: zodResponseFormat(Colour, "colour"),
  });
  found.parsed = parsed.choices[0].message.parsed;
  const completion = { model, prompt: "One, two,", max_tokens: 4, temperature: 0 };
  found.completion = (await client.completions.create(completion)).choices[0].text;
  found.completionStreamed = "";
  for await (const chunk of await client.completions.create({ ...completion, stream: true })) {
    found.completionStreamed += chunk.choices[0]?.text ?? "";
  }
  const scored = await client.chat.completions.create({ ...asked, logprobs: true, top_logprobs: 2, n: 2, seed: 1 });
  found.choices = scored.choices.map((choice) => choice.logprobs.content.length);
  found.unknownModel = await nameOf(client.chat.completions.create({ ...asked, model: "nobody" }));
  found.badField = await nameOf(client.chat.completions.create({ ...asked, temperature: 9 }));
  const long = { ...asked, max_tokens: 2000, ignore_eos: true };
  found.timeout = await nameOf(client.chat.completions.create(long, { timeout: 200, maxRetries: 0 }));
  const stream = await client.chat.completions.create({ ...long, stream: true });
  for await (const _ of stream) {
    stream.controller.abort();
  }
  found.aborted = stream.controller.signal.aborted;
  return found;
}

async function callWithAISDK() {
  const provider = createOpenAICompatible({ name: "infermesh", baseURL: `${aiUrl}/v1`, includeUsage: true });
  const structured = createOpenAICompatible({
    name: "infermesh",
    baseURL: `${aiUrl}/v1`,
    supportsStructuredOutputs: true,
  });
  const asked = { model: provider(model), messages, maxOutputTokens: 24, temperature: 0, maxRetries: 0 };
  const typed = { ...asked, model: structured(model), maxOutputTokens: 64, schema: Colour };
  const found = {};
  const text = await generateText(asked);
  found.text = text.text;
  found.usage = text.usage.outputTokens;
  const stream = streamText(asked);
  found.streamed = "";
  for await (const part of stream.textStream) {
    found.streamed += part;
  }
  found.streamedUsage = (await stream.usage).outputTokens;
  found.object = (await generateObject(typed)).object;
  const objects = streamObject(typed);
  for await (const partial of objects.partialObjectStream) {
    found.streamedObject = partial;
  }
  const completion = { model: provider.completionModel(model), prompt: "One, two,", maxOutputTokens: 8, maxRetries: 0 };
  found.completion = (await generateText(completion)).text;
  found.unknownModel = await nameOf(generateText({ ...asked, model: provider("nobody") }));
  return found;
}

console.log(JSON.stringify({ openai: await callWithOpenAI(), ai: await callWithAISDK() }));

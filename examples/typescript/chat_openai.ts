// Asks a mesh over REST with the unmodified openai package, lets a model that can call a function, and says which device
// answered and why.
//
//     npm install
//     npm run openai -- "How warm is it in Rome?"
//
// INFERMESH_URL names another mesh, INFERMESH_MODEL a model, INFERMESH_DEVICE where to answer (gpu, cpu, an address).
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.INFERMESH_URL ?? "http://127.0.0.1:8080"}/v1`,
  apiKey: process.env.INFERMESH_API_KEY ?? "unused",
});
const MAX_ROUNDS = 4;
type Message = OpenAI.Chat.Completions.ChatCompletionMessageParam;

const tools: OpenAI.Chat.Completions.ChatCompletionFunctionTool[] = [
  {
    type: "function",
    function: {
      name: "temperature",
      description: "Says how warm it is in a city, in degrees Celsius.",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

function temperature(argumentsJson: string): string {
  const { city } = JSON.parse(argumentsJson) as { city: string };
  return JSON.stringify({ city, celsius: 10 + (city.length % 15) });
}

async function firstModel(): Promise<string> {
  for await (const model of client.models.list()) return model.id;
  throw new Error("the mesh has no model; `infermesh models import` adds one");
}

// One round: streams the answer and gathers its calls. Without `offered` the model is told of no tools.
async function ask(model: string, messages: Message[], offered: typeof tools | undefined) {
  const { data: stream, response } = await client.chat.completions
    .create({
      model,
      messages,
      ...(offered ? { tools: offered } : {}),
      max_tokens: 200,
      stream: true,
      // a field of the mesh's own, which openai passes on
      ...(process.env.INFERMESH_DEVICE ? { device: process.env.INFERMESH_DEVICE } : {}),
    })
    .withResponse();
  const calls: OpenAI.Chat.Completions.ChatCompletionMessageFunctionToolCall[] = [];
  let text = "";
  for await (const chunk of stream) {
    const delta = chunk.choices[0]?.delta;
    process.stdout.write(delta?.content ?? "");
    text += delta?.content ?? "";
    for (const part of delta?.tool_calls ?? []) {
      const call = (calls[part.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
      call.id ||= part.id ?? "";
      call.function.name += part.function?.name ?? "";
      call.function.arguments += part.function?.arguments ?? "";
    }
  }
  const header = (name: string): string => response.headers.get(`x-infermesh-${name}`) ?? "?";
  console.log(`\n[${header("device")} at ${header("endpoint")}: ${header("reason")}]`);
  return { text, calls };
}

async function main(question: string): Promise<void> {
  const model = process.env.INFERMESH_MODEL ?? (await firstModel());
  const messages: Message[] = [{ role: "user", content: question }];
  for (let round = 1; round <= MAX_ROUNDS; round++) {
    const { text, calls } = await ask(model, messages, tools).catch((error: unknown) => {
      if (!(error instanceof OpenAI.BadRequestError && error.param === "tools")) throw error;
      console.log(`(${model} calls no tools; asking without)`);
      return ask(model, messages, undefined);
    });
    if (calls.length === 0) return;
    messages.push({ role: "assistant", content: text, tool_calls: calls });
    for (const call of calls) {
      const content = temperature(call.function.arguments);
      console.log(`${call.function.name}(${call.function.arguments}) = ${content}`);
      messages.push({ role: "tool", tool_call_id: call.id, content });
    }
  }
}

try {
  await main(process.argv[2] ?? "How warm is it in Rome?");
} catch (error) {
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

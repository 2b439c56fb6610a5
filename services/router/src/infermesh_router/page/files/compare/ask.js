// Asks a lane one prompt without chance, and times the answer: the first token, and the rate after it.
import { ApiError, call, getJson, serverEvents } from "../lib/api.js";

// The names of the models that continue texts and do not chat.
export async function baseModels(signal) {
  const { data } = await getJson("v1/models", { signal });
  return new Set(data.filter(({ capabilities }) => capabilities?.chat_completions === false).map(({ id }) => id));
}

// Returns {text, tokenIds, ttftS, tokensPerS (0 for one token), endpoint}. Throws ApiError.
export async function ask(lane, prompt, { maxTokens, isBase, signal }) {
  const asked = isBase ? { prompt } : { messages: [{ role: "user", content: prompt }] };
  const body = {
    ...asked, model: lane.model, max_tokens: maxTokens, temperature: 0, stream: true, return_token_ids: true,
    ...(lane.device ? { device: lane.device } : {}),
  };
  const begun = performance.now();
  const response = await call(isBase ? "v1/completions" : "v1/chat/completions", { method: "POST", body, signal });
  const reply = { text: "", tokenIds: [], ttftS: 0, tokensPerS: 0, endpoint: response.headers.get("x-infermesh-endpoint") || "" };
  let firstAt = 0, lastAt = 0;
  for await (const { data } of serverEvents(response)) {
    if (data === undefined) continue;
    if (data === "[DONE]") return timed(reply, begun, firstAt, lastAt);
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message);
    const choice = chunk.choices?.[0];
    if (!choice) continue;
    const ids = choice.token_ids || [];
    reply.tokenIds.push(...ids);
    reply.text += choice.text ?? `${choice.delta.reasoning_content || ""}${choice.delta.content || ""}`;
    if (!ids.length) continue;
    lastAt = performance.now();
    firstAt ||= lastAt;
  }
  throw new ApiError("The connection broke before the answer was complete.");
}

function timed(reply, begun, firstAt, lastAt) {
  const wroteS = (lastAt - firstAt) / 1000;
  reply.ttftS = firstAt ? (firstAt - begun) / 1000 : 0;
  reply.tokensPerS = reply.tokenIds.length > 1 && wroteS > 0 ? (reply.tokenIds.length - 1) / wroteS : 0;
  return reply;
}

// Measures so many streams at once on a lane: one request of so many prompts, whose choices stream side by side.
import { ApiError, call, serverEvents } from "../lib/api.js";
import { median } from "../lib/format.js";

const SUBJECTS = ["rivers", "bridges", "violins", "glaciers", "bread", "maps", "clocks", "whales"];

// Prompts of one length that begin differently, so that no prefix cache helps.
const promptOf = (index) =>
  `${Math.random().toString(36).slice(2, 8)} ${SUBJECTS[index % SUBJECTS.length]}: write down, in plain words and one after the other, what is known about them, how people use them, and what they mean to those who live with them.`;

// Returns {streams, tokensPerS (all together), ttftMs (median), totalMs}. Throws ApiError.
export async function measure(lane, { streams, tokens, signal }) {
  const body = {
    model: lane.model, prompt: Array.from({ length: streams }, (_, i) => promptOf(i)), max_tokens: tokens, ignore_eos: true,
    temperature: 0, stream: true, stream_options: { include_usage: true }, ...(lane.device ? { device: lane.device } : {}),
  };
  const begun = performance.now(), first = new Map();
  const response = await call("v1/completions", { method: "POST", body, signal });
  let generated = 0, ended = false;
  for await (const { data } of serverEvents(response)) {
    if (data === undefined) continue;
    if (data === "[DONE]") {
      ended = true;
      break;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message);
    for (const choice of chunk.choices) {
      if (choice.text && !first.has(choice.index)) first.set(choice.index, performance.now() - begun);
    }
    if (chunk.usage) generated = chunk.usage.completion_tokens;
  }
  if (!ended) throw new ApiError("The connection broke before the answers were complete.");
  const totalMs = performance.now() - begun;
  return { streams, tokensPerS: generated / (totalMs / 1000), ttftMs: median([...first.values()]), totalMs };
}

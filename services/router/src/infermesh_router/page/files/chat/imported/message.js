// A message of a file: what the page draws and sends of one, and nothing of another type.
import { either, list, named, number, or, record, text, time } from "./fields.js";

const MOST_GAPS = 160; // as many as are kept of an answer
const STATUSES = new Set(["streaming", "done", "stopped", "failed"]);

const texts = or(list(text), []);
const word = or(text, "");

// Only pictures that stand in the file: one at an address would tell its server who reads the chat.
const picture = (value) => (text(value)?.startsWith("data:image/") ? value : undefined);

const CALL = { id: word, name: word, arguments: word };
const MOVE = { offset: or(number, 0), tokens: or(number, 0), from: word, to: word, reason: word };
const CANDIDATE = { endpoint: word, score: number, seconds: number };
const FAILOVER = { after_tokens: number, at_ms: number, from_endpoint: word, to_endpoint: word, reason: word };
const STATS = {
  ...Object.fromEntries(["requestId", "endpoint", "device", "reason", "sampling", "ignored"].map((name) => [name, text])),
  ...Object.fromEntries(
    ["ttftMs", "totalMs", "queuedMs", "loadingMs", "overheadMs", "promptTokens", "completionTokens", "cachedTokens", "tokensPerS"].map((name) => [name, number])),
  gaps: list(number, MOST_GAPS), timings: named(number),
};
const RECEIPT = {
  request_id: word, call: word, model: word, alias: word, arrived_at: text, error: word, ...CANDIDATE, reason: word, seed: either, device: word,
  ...Object.fromEntries(
    ["prompt_tokens", "cached_tokens", "completion_tokens", "total_ms", "queued_ms", "overhead_ms", "prefill_ms", "decode_ms", "loading_ms", "first_token_ms"].map((name) => [name, number])),
  runners_up: or(list(record(CANDIDATE)), []), retries: or(list(record({ endpoint: word, reason: word })), []),
  failovers: or(list(record(FAILOVER)), []), sampling: or(list(record({ name: word, value: number, source: word })), []),
  ignored_fields: texts, finish_reasons: texts,
};
const KEPT = { role: text, content: text, at: or(time, 0), changed: time };
const QUESTION = { ...KEPT, images: list(picture) };
const ANSWER = {
  ...KEPT, status: (value) => (STATUSES.has(value) ? value : "done"), model: word, device: word, reasoning: word,
  error: word, finishReason: word, toolCalls: or(list(record(CALL)), []), toolResults: named(text),
  moves: or(list(record(MOVE)), []), stats: record(STATS), receipt: or(record(RECEIPT), null),
};

const READERS = { user: record(QUESTION), assistant: record(ANSWER) };

// The message without its place in the chat, or undefined if it is neither a user's nor an assistant's.
export function readMessage(told) {
  const role = record({ role: text })(told)?.role;
  const message = Object.hasOwn(READERS, role ?? "") ? READERS[role](told) : undefined;
  return message?.content === undefined ? undefined : message;
}

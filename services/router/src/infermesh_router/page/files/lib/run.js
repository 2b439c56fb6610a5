// One streamed chat answer: asks, gathers text, reasoning and tool calls, and measures what the client sees.
import { BROKEN, call, getJson, serverEvents } from "./api.js";
import { onFailover } from "./mesh_feed.js";

const RECEIPT_TRIES_MS = [0, 150, 400, 1000];

// Begins an answer. The returned run changes until its status is "done", "stopped" or "failed"; `changed` is called
// each time something has. `body` is that of /v1/chat/completions, or of /v1/completions if it has a prompt. `begun` is an
// answer that is continued: {content, reasoning, moves}. `ended` is the promise of the whole answer, and `finished` that of
// its receipt too, which may take seconds longer.
export function startRun(body, changed = () => {}, begun = {}) {
  const run = new Run(body, changed, begun);
  run.ended = run.go();
  run.finished = run.ended.then(() => run.takeReceiptLater());
  return run;
}

class Run {
  status = "waiting";
  note = ""; // what the mesh says while it waits: "loading qwen 62 %, 5 s left"
  toolCalls = [];
  finishReason = "";
  error = "";
  moves; // {offset, from, to, reason}: where in the text the stream went to another endpoint
  gaps = []; // ms for each token, as they arrived
  stats = {};

  constructor(body, changed, { content = "", reasoning = "", moves = [] }) {
    Object.assign(this, { text: content, reasoning, moves });
    this.body = { ...body, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
    this.changed = changed;
    this.aborting = new AbortController();
    this.log = [[0, content.length]]; // [tokens, length of the text] after each chunk
    this.tokens = 0;
  }

  stop() {
    this.aborting.abort();
  }

  get live() {
    return this.status === "waiting" || this.status === "streaming";
  }

  async go() {
    const begun = performance.now();
    this.unfollow = onFailover((event) => this.moved(event));
    try {
      const response = await call(this.body.prompt === undefined ? "v1/chat/completions" : "v1/completions", {
        method: "POST", body: this.body, signal: this.aborting.signal,
      });
      this.readHeaders(response.headers);
      await this.read(response, begun);
      if (this.live) this.status = "done";
    } catch (error) {
      this.status = error.name === "AbortError" ? "stopped" : "failed";
      if (this.status === "failed") this.error = error.message;
      if (error.requestId) this.stats.requestId = error.requestId;
    }
    this.stats.totalMs = performance.now() - begun;
    this.changed();
    return this;
  }

  async takeReceiptLater() {
    await this.readReceipt().catch(() => {});
    this.unfollow();
    this.changed();
    return this;
  }

  readHeaders(headers) {
    const take = (name) => headers.get(`x-infermesh-${name}`);
    const figure = (name) => (take(name) === null ? undefined : Number(take(name)));
    Object.assign(this.stats, {
      requestId: headers.get("x-request-id") || "",
      endpoint: take("endpoint") || "", device: take("device") || "", reason: take("reason") || "",
      queuedMs: figure("queued-ms"), loadingMs: figure("loading-ms"), overheadMs: figure("overhead-ms"),
      sampling: take("sampling") || "", ignored: take("ignored-fields") || "",
    });
  }

  async read(response, begun) {
    let last = 0;
    for await (const { data, comment } of serverEvents(response)) {
      if (comment !== undefined) {
        this.note = comment;
        this.changed();
        continue;
      }
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message || "The stream ended with an error.");
      const now = performance.now();
      const before = this.tokens;
      this.take(chunk);
      if (this.tokens > before) {
        if (last === 0) this.stats.ttftMs = now - begun;
        else for (let i = before; i < this.tokens; i++) this.gaps.push((now - last) / (this.tokens - before));
        this.stats.firstAt ??= now;
        this.stats.lastAt = last = now;
        this.log.push([this.tokens, this.text.length]);
      }
      this.changed();
    }
    throw new Error(BROKEN);
  }

  take(chunk) {
    const choice = chunk.choices?.[0];
    if (choice) {
      const { content, reasoning_content: reasoning, tool_calls: calls } = choice.delta || {};
      if (content || choice.text) this.text += content || choice.text;
      if (reasoning) this.reasoning += reasoning;
      for (const piece of calls || []) this.takeCall(piece);
      if (choice.finish_reason) this.finishReason = choice.finish_reason;
      if (content || reasoning || calls || choice.text) this.status = "streaming";
    }
    if (chunk.usage) {
      this.tokens = Math.max(this.tokens, chunk.usage.completion_tokens);
      this.stats.promptTokens = chunk.usage.prompt_tokens;
      this.stats.completionTokens = chunk.usage.completion_tokens;
      this.stats.cachedTokens = chunk.usage.prompt_tokens_details?.cached_tokens || 0;
    }
    if (chunk.timings) this.stats.timings = chunk.timings;
    const told = chunk.infermesh?.failovers;
    if (told) this.stats.failovers = told;
  }

  takeCall({ index, id, function: called = {} }) {
    const call = (this.toolCalls[index] ??= { id: "", name: "", arguments: "" });
    if (id) call.id = id;
    if (called.name) call.name = called.name;
    if (called.arguments) call.arguments += called.arguments;
  }

  // A move that the mesh tells of: where in the text is where these tokens end.
  moved({ request_id: id, from_endpoint: from, to_endpoint: to, reason, after_tokens: tokens }) {
    if (!id || id !== this.stats.requestId) return;
    if (this.moves.some((move) => move.tokens === tokens && move.to === to)) return;
    this.moves = [...this.moves, { offset: this.offsetOf(tokens), tokens, from, to, reason }];
    this.changed();
  }

  offsetOf(tokens) {
    let offset = 0;
    for (const [reached, length] of this.log) {
      if (reached > tokens) break;
      offset = length;
    }
    return offset;
  }

  // The receipt says more than the headers; it is there once the request has ended.
  async readReceipt() {
    const id = this.stats.requestId;
    if (!id) return;
    for (const wait of RECEIPT_TRIES_MS) {
      if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
      const receipt = await getJson(`mesh/v1/requests/${encodeURIComponent(id)}`).catch(() => null);
      if (!receipt) continue;
      this.takeReceipt(receipt);
      return;
    }
  }

  takeReceipt(receipt) {
    this.receipt = receipt;
    Object.assign(this.stats, {
      endpoint: receipt.endpoint || this.stats.endpoint, device: receipt.device || this.stats.device,
      reason: receipt.reason || this.stats.reason, queuedMs: receipt.queued_ms, overheadMs: receipt.overhead_ms,
      cachedTokens: receipt.cached_tokens ?? this.stats.cachedTokens,
    });
    for (const move of receipt.failovers || []) this.moved({ ...move, request_id: this.stats.requestId });
  }

  // Tokens per second as the client saw them, from the first token to the last; or as they were made, if they came to the
  // client all at once.
  get tokensPerS() {
    const { firstAt, lastAt } = this.stats;
    const seenMs = lastAt - firstAt, madeMs = this.receipt?.decode_ms || 0;
    const passed = (madeMs > 2 * seenMs ? madeMs : seenMs) / 1000;
    return passed > 0 && this.tokens > 1 ? (this.tokens - 1) / passed : NaN;
  }
}

// A finished run as it is kept with its answer.
export function keepRun(run) {
  const { firstAt, lastAt, ...stats } = run.stats;
  return {
    content: run.text, reasoning: run.reasoning, toolCalls: run.toolCalls, status: run.status, error: run.error,
    finishReason: run.finishReason, moves: run.moves, receipt: run.receipt || null,
    stats: { ...stats, tokensPerS: run.tokensPerS || null, gaps: thin(run.gaps, 160) },
  };
}

// At most so many of the gaps; each stands for several and is the longest of them, so that stalls stay visible.
export function thin(gaps, most) {
  if (gaps.length <= most) return gaps.map((gap) => Math.round(gap * 10) / 10);
  const step = gaps.length / most;
  return Array.from({ length: most }, (_, i) => {
    const part = gaps.slice(Math.floor(i * step), Math.floor((i + 1) * step));
    return Math.round(Math.max(...part) * 10) / 10;
  });
}

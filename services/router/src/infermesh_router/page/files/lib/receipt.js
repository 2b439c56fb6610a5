// The receipt of a request: where it was answered and why there, what each part took, and how it was sampled.
import { html } from "./html.js";
import { clock, count, duration, plural, short } from "./format.js";
import { endpointName } from "./mesh_feed.js";
import { failureInWords, reasonInWords } from "./reasons.js";

// `receipt` may be one that is kept with a chat, or came with a file: any of its values may be missing.
export function Receipt({ receipt, requestId }) {
  if (!receipt) {
    return html`<section class="receipt" aria-label="Receipt"><p class="hint">The mesh keeps no receipt of this request any more.
      Its id was <code>${requestId || "unknown"}</code>.</p></section>`;
  }
  return html`
    <section class="receipt" aria-label="Receipt">
      <div class="receipt-part">
        <h3>${receipt.endpoint ? `Why ${endpointName(receipt.endpoint)}` : "No endpoint answered"}</h3>
        ${receipt.reason && html`<p>${sentence(reasonInWords(receipt.reason))}</p>`}
        ${receipt.error && html`<p class="wrong">${sentence(receipt.error.replaceAll("_", " ").toLowerCase())}</p>`}
        ${receipt.endpoint && receipt.runners_up.length > 0 && html`<${Candidates} receipt=${receipt} />`}
        ${receipt.retries.map((each, i) => html`<p key=${i}>${endpointName(each.endpoint)} failed before the first token: ${failureInWords(each.reason)}.</p>`)}
        ${receipt.failovers.map((each, i) => html`
          <p key=${i}>After ${count(each.after_tokens)} tokens, at ${duration(each.at_ms)}: ${endpointName(each.from_endpoint)} was left because
            ${" "}${failureInWords(each.reason)}; ${endpointName(each.to_endpoint)} went on.</p>`)}
      </div>
      <div class="receipt-part">
        <h3>Where the time went</h3>
        <${Times} receipt=${receipt} />
        ${(receipt.prompt_tokens > 0 || receipt.completion_tokens > 0) && html`
          <p class="hint">${count(receipt.prompt_tokens)} tokens in (${count(receipt.cached_tokens)} cached), ${count(receipt.completion_tokens)} out</p>`}
        <p class="hint">${receipt.first_token_ms > 0 && `First token after ${duration(receipt.first_token_ms)}, `}${duration(receipt.total_ms)} in all</p>
      </div>
      ${(receipt.sampling.length > 0 || receipt.ignored_fields.length > 0) && html`<${Sampling} receipt=${receipt} />`}
      <p class="receipt-id">Request <code>${receipt.request_id}</code>${about(receipt)}</p>
    </section>
  `;
}

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}.`;

const CALLS = {
  Generate: "text", Embed: "vectors", Score: "scores", Infer: "tensors", Transcribe: "transcription", Speak: "speech",
  Tokenize: "tokens", Detokenize: "text of tokens",
};

// What was asked for, when, and how it ended.
function about({ call, model, alias, arrived_at: at, finish_reasons: ends, others }) {
  const told = [
    CALLS[call] && `asked for ${CALLS[call]}`,
    model && `of ${model}${alias ? ` (by its alias ${alias})` : ""}`,
    at && `at ${clock(Date.parse(at) / 1000)}`,
  ].filter(Boolean).join(" ");
  const ended = ends.length ? `ended by ${ends.join(", ")}` : "";
  const more = others?.length ? `the first of ${plural(others.length + 1, "prompt")}` : "";
  return [told, ended, more].filter(Boolean).map((each) => `, ${each}`).join("");
}

const SOURCES = { request: "request", model: "model", "built-in": "mesh" };

const Sampling = ({ receipt }) => html`
  <div class="receipt-part">
    <h3>How it was sampled</h3>
    ${receipt.sampling.length > 0 && html`
      <table><thead><tr><th>Value</th><th></th><th>Set by</th></tr></thead><tbody>
        ${receipt.sampling.map(({ name, value, source }) => html`
          <tr key=${name} class=${source === "built-in" ? "usual" : ""}><td>${name}</td><td class="figure">${short(value)}</td><td>${SOURCES[source] || source}</td></tr>`)}
        </tbody></table>
      <p class="hint">Seed ${receipt.seed}</p>`}
    ${receipt.ignored_fields.length > 0 && html`<p>Had no effect: ${receipt.ignored_fields.join(", ")}</p>`}
  </div>
`;

function Candidates({ receipt }) {
  const rows = [{ endpoint: receipt.endpoint, score: receipt.score, seconds: receipt.seconds, chosen: true }, ...receipt.runners_up];
  const scored = rows.some(({ score }) => score !== 0); // not where a rule decided
  return html`
    <table>
      <thead><tr><th>Endpoint</th><th class="figure">Done in</th>${scored && html`<th class="figure">Score</th>`}</tr></thead>
      <tbody>${rows.map(({ endpoint, score, seconds, chosen }) => html`
        <tr key=${endpoint} class=${chosen ? "chosen" : ""}><td>${endpointName(endpoint)}</td><td class="figure">${seconds > 0 ? duration(seconds * 1000) : "not measured"}</td>${scored && html`<td class="figure">${short(score)}</td>`}</tr>`)}
      </tbody>
    </table>
  `;
}

const PARTS = [
  { name: "Queue", ms: (receipt) => receipt.queued_ms - (receipt.loading_ms || 0), color: "var(--series-4)" },
  { name: "Loading", ms: (receipt) => receipt.loading_ms, color: "var(--series-5)", rare: true },
  { name: "Router", ms: (receipt) => receipt.overhead_ms, color: "var(--series-6)" },
  { name: "Prefill", ms: (receipt) => receipt.prefill_ms, color: "var(--series-2)" },
  { name: "Decode", ms: (receipt) => receipt.decode_ms, color: "var(--series-1)" },
];

// One bar of all parts; what is left over is the network and the work of other requests.
function Times({ receipt }) {
  const known = PARTS.map((part) => ({ ...part, ms: part.ms(receipt) || 0 })).filter(({ ms, rare }) => ms > 0 || !rare);
  const sum = Math.max(receipt.total_ms, known.reduce((total, { ms }) => total + ms, 0)) || 1;
  let at = 0;
  return html`
    <svg class="parts" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
      <rect width="100" height="8" class="bar-track" />
      ${known.map(({ name, ms, color }) => {
        const x = at;
        at += (100 * ms) / sum;
        return html`<rect key=${name} x=${x} width=${(100 * ms) / sum} height="8" fill=${color} />`;
      })}
    </svg>
    <ul class="legend">
      ${known.map(({ name, ms, color }) => html`<li key=${name}><svg viewBox="0 0 8 8" width="8" height="8" aria-hidden="true"><rect width="8" height="8" rx="2" fill=${color} /></svg>${name} ${duration(ms)}</li>`)}
    </ul>
  `;
}

// The receipt of an answer: where it was made and why there, what each part took, and how it was sampled.
import { html } from "../lib/html.js";
import { count, duration, short } from "../lib/format.js";
import { endpointName } from "../lib/mesh_feed.js";
import { failureInWords, reasonInWords } from "../lib/reasons.js";

export function Receipt({ node }) {
  const receipt = node.receipt;
  if (!receipt) {
    return html`<section class="receipt" aria-label="Receipt"><p class="hint">The mesh keeps no receipt of this request any more.
      Its id was <code>${node.stats?.requestId || "unknown"}</code>.</p></section>`;
  }
  return html`
    <section class="receipt" aria-label="Receipt">
      <div class="receipt-part">
        <h3>Why ${endpointName(receipt.endpoint)}</h3>
        <p>${sentence(reasonInWords(receipt.reason))}</p>
        ${receipt.runners_up.length > 0 && html`<${Candidates} receipt=${receipt} />`}
        ${receipt.retries.map((each, i) => html`<p key=${i}>${endpointName(each.endpoint)} failed before the first token: ${failureInWords(each.reason)}.</p>`)}
        ${receipt.failovers.map((each, i) => html`
          <p key=${i}>After ${count(each.after_tokens)} tokens, at ${duration(each.at_ms)}: ${endpointName(each.from_endpoint)} was left because
            ${" "}${failureInWords(each.reason)}; ${endpointName(each.to_endpoint)} went on.</p>`)}
      </div>
      <div class="receipt-part">
        <h3>Where the time went</h3>
        <${Times} receipt=${receipt} />
        <p class="hint">${count(receipt.prompt_tokens)} tokens in (${count(receipt.cached_tokens)} cached), ${count(receipt.completion_tokens)} out,
          ${" "}${duration(receipt.total_ms)} in all</p>
      </div>
      <div class="receipt-part">
        <h3>How it was sampled</h3>
        <table><thead><tr><th>Value</th><th></th><th>Set by</th></tr></thead><tbody>
          ${receipt.sampling.filter(({ source }) => source !== "built-in").map(({ name, value, source }) => html`
            <tr key=${name}><td>${name}</td><td class="figure">${short(value)}</td><td>${source === "request" ? "you" : "the model"}</td></tr>`)}
          </tbody></table>
        <p class="hint">Seed ${receipt.seed}</p>
        ${receipt.ignored_fields.length > 0 && html`<p>Had no effect: ${receipt.ignored_fields.join(", ")}</p>`}
      </div>
      <p class="receipt-id">Request <code>${receipt.request_id}</code>${receipt.finish_reasons.length > 0 && `, ended by ${receipt.finish_reasons.join(", ")}`}</p>
    </section>
  `;
}

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}.`;

function Candidates({ receipt }) {
  const rows = [{ endpoint: receipt.endpoint, score: receipt.score, seconds: receipt.seconds, chosen: true }, ...receipt.runners_up];
  return html`
    <table>
      <thead><tr><th>Endpoint</th><th class="figure">Done in</th><th class="figure">Score</th></tr></thead>
      <tbody>${rows.map(({ endpoint, score, seconds, chosen }) => html`
        <tr key=${endpoint} class=${chosen ? "chosen" : ""}><td>${endpointName(endpoint)}</td><td class="figure">${duration(seconds * 1000)}</td><td class="figure">${short(score)}</td></tr>`)}
      </tbody>
    </table>
  `;
}

const PARTS = [
  { name: "Queue", key: "queued_ms", color: "var(--series-4)" },
  { name: "Router", key: "overhead_ms", color: "var(--series-6)" },
  { name: "Prefill", key: "prefill_ms", color: "var(--series-2)" },
  { name: "Decode", key: "decode_ms", color: "var(--series-1)" },
];

// One bar of all parts; what is left over is the network and the work of other requests.
function Times({ receipt }) {
  const known = PARTS.map((part) => ({ ...part, ms: receipt[part.key] || 0 }));
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

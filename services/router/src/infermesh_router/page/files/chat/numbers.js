// The line below an answer: who answered and why, and how fast.
import { html } from "../lib/html.js";
import { count, duration, rate } from "../lib/format.js";
import { endpointNames } from "../lib/mesh_feed.js";
import { Spark } from "../lib/plots.js";
import { reasonInWords } from "../lib/reasons.js";

export function Numbers({ model, stats, moves, receipt, opened, onOpen }) {
  if (!stats.endpoint && !stats.ttftMs && !receipt) return null;
  const gaps = stats.gaps || [];
  return html`
    <div class="numbers">
      <button type="button" class="who" aria-expanded=${opened ? "true" : "false"} onClick=${onOpen} title="Show the receipt">
        <span class=${`device ${stats.device || "unknown"}`}>${endpointNames(stats.endpoint, moves) || (receipt ? "nobody" : "unknown")}</span>
        <span class="why">${why(stats, receipt)}</span>
      </button>
      ${gaps.length > 3 && html`
        <${Spark} values=${gaps} width=${96} height=${18} label=${`Time between tokens, up to ${duration(Math.max(...gaps))}`} />`}
      <dl>
        ${model && html`<${Figure} name="Model" value=${model} title="The model that answered" />`}
        ${stats.ttftMs > 0 && html`<${Figure} name="First token" value=${duration(stats.ttftMs)} title="From your click to the first token (TTFT)" />`}
        ${stats.tokensPerS > 0 && html`<${Figure} name="Speed" value=${rate(stats.tokensPerS)} title="From the first token to the last" />`}
        ${stats.completionTokens > 0 && html`<${Figure} name="Tokens" value=${count(stats.completionTokens)} title="Tokens of the answer" />`}
        ${stats.queuedMs !== undefined && html`<${Figure} name="Queued" value=${duration(stats.queuedMs)} title="Time that the request waited in the router" />`}
        ${stats.overheadMs !== undefined && html`<${Figure} name="Overhead" value=${duration(stats.overheadMs)} title="Time that the router itself took" />`}
        ${stats.cachedTokens > 0 && html`<${Figure} name="Cached" value=${`${count(stats.cachedTokens)} of ${count(stats.promptTokens)}`} title="Tokens of the prompt that were in the prefix cache" />`}
        ${moves.length > 0 && html`<${Figure} name="Moved" value=${moves.length === 1 ? "once" : `${moves.length} times`} title="The stream went to another endpoint and lost nothing" />`}
      </dl>
    </div>
  `;
}

function why(stats, receipt) {
  if (stats.reason) return reasonInWords(stats.reason);
  return receipt?.error ? receipt.error.replaceAll("_", " ").toLowerCase() : "the model was still loading";
}

const Figure = ({ name, value, title }) => html`<div title=${title}><dt>${name}</dt><dd>${value}</dd></div>`;

// The figures of all lanes: a table, and bars to see at once who was faster.
import { html } from "../lib/html.js";
import { count, duration, rate } from "../lib/format.js";
import { endpointNames } from "../lib/mesh_feed.js";
import { Bars } from "../lib/plots.js";
import { reasonInWords } from "../lib/reasons.js";
import { CopyTable } from "./copy_table.js";

const HEAD = ["Lane", "Answered by", "Why", "First token", "Speed", "Tokens", "Total"];

export function Outcome({ runs }) {
  const done = runs.filter(({ run }) => !run.error);
  if (!done.length) return null;
  const rows = done.map(({ lane, run }) => [
    lane.name, endpointNames(run.stats.endpoint, run.moves) || "–", run.stats.reason ? reasonInWords(run.stats.reason) : "–",
    duration(run.stats.ttftMs), rate(run.tokensPerS || 0), count(run.tokens), duration(run.stats.totalMs),
  ]);
  const bars = (value, text) => done.map(({ lane, run }) => ({ label: lane.name, color: lane.color, value: value(run) || 0, text: text(value(run) || 0) }));
  return html`
    <section class="card stack" aria-label="Figures">
      <div class="table-scroll" tabindex="0" role="region" aria-label="Figures of the lanes">
        <table class="wide-table">
          <thead><tr>${HEAD.map((title, i) => html`<th key=${title} class=${i > 2 ? "figure" : ""}>${title}</th>`)}</tr></thead>
          <tbody>${rows.map((row, r) => html`<tr key=${r}>${row.map((cell, i) => html`<td key=${i} class=${i > 2 ? "figure" : ""}>${cell}</td>`)}</tr>`)}</tbody>
        </table>
      </div>
      <div class="bar-sets">
        <${Bars} title="Tokens per second (more is better)" rows=${bars((run) => run.tokensPerS, rate)} />
        <${Bars} title="First token (less is better)" rows=${bars((run) => run.stats.ttftMs, duration)} />
        <${Bars} title="Total time (less is better)" rows=${bars((run) => run.stats.totalMs, duration)} />
      </div>
      <div class="row end"><${CopyTable} head=${HEAD} rows=${rows} /></div>
    </section>
  `;
}

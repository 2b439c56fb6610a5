// The figures of all lanes: a table, and bars to see at once who was faster.
import { html } from "../lib/html.js";
import { count, duration, rate } from "../lib/format.js";
import { endpointNames } from "../lib/mesh_feed.js";
import { Bars } from "../lib/plots.js";
import { reasonInWords } from "../lib/reasons.js";
import { FiguresTable } from "./figures_table.js";

const speed = (perS) => (Number.isFinite(perS) ? rate(perS) : "–"); // one token alone has none
const COLUMNS = [
  { title: "Lane" },
  { title: "Answered by" },
  { title: "Why" },
  { title: "First token", unit: "ms", show: duration },
  { title: "Speed", unit: "tok/s", show: speed },
  { title: "Tokens", show: count },
  { title: "Total", unit: "ms", show: duration },
];

export function Outcome({ runs }) {
  const done = runs.filter(({ run }) => run.status === "done"); // what was cut off cannot be compared in time
  const rows = runs.map(({ lane, run }) => [
    run.status === "done" ? lane.name : `${lane.name} (${run.status})`,
    endpointNames(run.stats.endpoint, run.moves) || "–", run.stats.reason ? reasonInWords(run.stats.reason) : "–",
    run.stats.ttftMs, run.tokensPerS, run.tokens, run.stats.totalMs,
  ]);
  const bars = (value, text) => done.map(({ lane, run }) => ({ label: lane.name, color: lane.color, value: value(run) || 0, text: text(value(run)) }));
  return html`
    <section class="card stack" aria-label="Figures">
      <${FiguresTable} label="Figures of the lanes" columns=${COLUMNS} rows=${rows}>
        ${done.length > 0 && html`
          <div class="bar-sets">
            <${Bars} title="Tokens per second (more is better)" rows=${bars((run) => run.tokensPerS, speed)} />
            <${Bars} title="First token (less is better)" rows=${bars((run) => run.stats.ttftMs, duration)} />
            <${Bars} title="Total time (less is better)" rows=${bars((run) => run.stats.totalMs, duration)} />
          </div>`}
      <//>
    </section>
  `;
}

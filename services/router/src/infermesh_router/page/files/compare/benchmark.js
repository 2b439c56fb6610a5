// Runs the benchmark: 1, 4 and 16 streams at once on each lane, one lane after the other.
import { html } from "../lib/html.js";
import { count, duration, plural, rate } from "../lib/format.js";
import { Bars } from "../lib/plots.js";
import { FiguresTable } from "./figures_table.js";
import { useKept } from "./kept.js";
import { measure } from "./measure.js";
import { RunButton, runKey } from "./run_button.js";
import { Problems, createTask } from "./task.js";

const STREAMS = [1, 4, 16];
const COLUMNS = [
  { title: "Lane" },
  { title: "Streams", show: count },
  { title: "All together", unit: "tok/s", show: rate },
  { title: "Each stream", unit: "tok/s", show: rate },
  { title: "First token (median)", unit: "ms", show: duration },
  { title: "Total", unit: "ms", show: duration },
];
const task = createTask("The benchmark");

export function Benchmark({ lanes }) {
  const [tokens, setTokens] = useKept("benchmark tokens", "64");
  const { at, found, problems } = task.use();
  const start = (event) => {
    event.preventDefault();
    task.start((work) => measureAll(lanes, Number(tokens) || 64, work));
  };
  return html`
    <div class="stack">
      <form class="card stack" onSubmit=${start} onKeyDown=${runKey}>
        <p class="hint">Each lane answers 1, 4 and 16 different prompts at once, and the lanes take turns. The prompts of a round
          travel in one request, because browsers open only six connections to a host.</p>
        <div class="row compare-settings">
          <label>Tokens of each answer <input type="number" min="8" max="2048" value=${tokens} onInput=${(event) => setTokens(event.target.value)} /></label>
          <span class="spacer"></span>
          <span role="status" class="hint">${at}</span>
          <${RunButton} running=${Boolean(at)} disabled=${!lanes.length} onStop=${task.stop}>Run the benchmark<//>
        </div>
        <${Problems} list=${problems} />
      </form>
      ${found && html`<${Results} results=${found} done=${!at} />`}
    </div>
  `;
}

async function measureAll(lanes, tokens, { signal, tell, show, eachLane }) {
  const found = [];
  await eachLane(lanes, async (lane) => {
    tell(`${lane.name}, warming up`);
    await measure(lane, { streams: 1, tokens: 4, signal });
    for (const streams of STREAMS) {
      tell(`${lane.name}, ${plural(streams, "stream")}`);
      found.push({ lane, ...(await measure(lane, { streams, tokens, signal })) });
      show([...found]);
    }
  });
}

function Results({ results, done }) {
  const rows = results.map(({ lane, streams, tokensPerS, ttftMs, totalMs }) => [lane.name, streams, tokensPerS, tokensPerS / streams, ttftMs, totalMs]);
  const bars = (value, text) => results.map((each) => ({ label: `${each.lane.name} × ${each.streams}`, color: each.lane.color, value: value(each), text: text(value(each)) }));
  return html`
    <section class="card stack" aria-label="Results">
      <div class="bar-sets two">
        <${Bars} title="Tokens per second, all streams together (more is better)" rows=${bars((each) => each.tokensPerS, rate)} />
        <${Bars} title="First token, median (less is better)" rows=${bars((each) => each.ttftMs, duration)} />
      </div>
      <${FiguresTable} label="Results of the benchmark" columns=${COLUMNS} rows=${rows} copies=${done} />
    </section>
  `;
}

// Runs the benchmark: 1, 4 and 16 streams at once on each lane, one lane after the other.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { count, duration, rate } from "../lib/format.js";
import { Bars } from "../lib/plots.js";
import { CopyTable } from "./copy_table.js";
import { measure } from "./measure.js";

const STREAMS = [1, 4, 16];
const HEAD = ["Lane", "Streams", "All together", "Each stream", "First token (median)", "Total"];

export function Benchmark({ lanes }) {
  const [tokens, setTokens] = useState("64");
  const [results, setResults] = useState([]);
  const [at, setAt] = useState("");
  const [problem, setProblem] = useState("");
  const aborting = useRef(null);
  useEffect(() => () => aborting.current?.abort(), []);
  const start = async (event) => {
    event.preventDefault();
    if (aborting.current) return; // a second click, before the first one is drawn
    aborting.current = new AbortController();
    setResults([]);
    setProblem("");
    const found = [];
    try {
      for (const lane of lanes) {
        setAt(`Warming up ${lane.name}`);
        await measure(lane, { streams: 1, tokens: 4, signal: aborting.current.signal });
        for (const streams of STREAMS) {
          setAt(`${lane.name}: ${streams} ${streams === 1 ? "stream" : "streams"}`);
          found.push({ lane, ...(await measure(lane, { streams, tokens: Number(tokens) || 64, signal: aborting.current.signal })) });
          setResults([...found]);
        }
      }
    } catch (error) {
      if (error.name !== "AbortError") setProblem(error.message);
    }
    aborting.current = null;
    setAt("");
  };
  return html`
    <div class="stack">
      <form class="card stack" onSubmit=${start}>
        <p class="hint">Each lane answers 1, 4 and 16 different prompts at once, and the lanes take turns. The prompts of a round
          travel in one request, because browsers open only six connections to a host.</p>
        <div class="row compare-settings">
          <label>Tokens of each answer <input type="number" min="8" max="2048" value=${tokens} onInput=${(event) => setTokens(event.target.value)} /></label>
          <span class="spacer"></span>
          <span role="status" class="hint">${at}</span>
          ${at
            ? html`<button key="stop" type="button" onClick=${() => aborting.current?.abort()}>Stop</button>`
            : html`<button key="run" type="submit" class="primary" disabled=${!lanes.length}>Run the benchmark</button>`}
        </div>
        ${problem && html`<p class="ending error" role="alert">${problem}</p>`}
      </form>
      ${results.length > 0 && html`<${Results} results=${results} done=${!at} />`}
    </div>
  `;
}

function Results({ results, done }) {
  const rows = results.map(({ lane, streams, tokensPerS, ttftMs, totalMs }) => [
    lane.name, count(streams), rate(tokensPerS), rate(tokensPerS / streams), duration(ttftMs), duration(totalMs),
  ]);
  const bars = (value, text) => results.map((each) => ({ label: `${each.lane.name} × ${each.streams}`, color: each.lane.color, value: value(each), text: text(value(each)) }));
  return html`
    <section class="card stack" aria-label="Results">
      <div class="bar-sets two">
        <${Bars} title="Tokens per second, all streams together (more is better)" rows=${bars((each) => each.tokensPerS, rate)} />
        <${Bars} title="First token, median (less is better)" rows=${bars((each) => each.ttftMs, duration)} />
      </div>
      <div class="table-scroll" tabindex="0" role="region" aria-label="Results of the benchmark">
        <table class="wide-table">
          <thead><tr>${HEAD.map((title, i) => html`<th key=${title} class=${i ? "figure" : ""}>${title}</th>`)}</tr></thead>
          <tbody>${rows.map((row, r) => html`<tr key=${r}>${row.map((cell, i) => html`<td key=${i} class=${i ? "figure" : ""}>${cell}</td>`)}</tr>`)}</tbody>
        </table>
      </div>
      ${done && html`<div class="row end"><${CopyTable} head=${HEAD} rows=${rows} /></div>`}
    </section>
  `;
}

// The agreement of lanes: a set of prompts on each, one lane after the other; how much is the same, and where it parts.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { median } from "../lib/format.js";
import { agreement, firstDifference, wholeAnswers } from "./agreement.js";
import { ask, baseModels } from "./ask.js";
import { CopyTable } from "./copy_table.js";

const HEAD = ["device", "answered by", "agreement", "same", "tokens/s", "TTFT"];
const MOST_SHOWN = 40; // longest prompt that is shown, in characters

let loading = null;

// The prompts and what goes with them. What failed is asked for again.
function loadSet() {
  loading ??= fetch(new URL("./prompts.json", import.meta.url))
    .then((answer) => (answer.ok ? answer.json() : Promise.reject()))
    .catch(() => {
      loading = null;
      throw new Error("The prompts did not come: the mesh does not answer.");
    });
  return loading;
}

export function Agreeing({ lanes }) {
  const [set, setSet] = useState(null);
  const [problem, setProblem] = useState("");
  const load = () => {
    setProblem("");
    loadSet().then(setSet, (error) => setProblem(error.message));
  };
  useEffect(load, []);
  if (set) return html`<${Asking} lanes=${lanes} set=${set} />`;
  if (!problem) return html`<p role="status" class="hint">Loading…</p>`;
  return html`
    <p class="ending error" role="alert">${problem}</p>
    <div class="row"><button type="button" onClick=${load}>Try again</button></div>
  `;
}

function Asking({ lanes, set }) {
  const [prompts, setPrompts] = useState(set.prompts.join("\n"));
  const [longest, setLongest] = useState(String(set.max_tokens));
  const [found, setFound] = useState(null);
  const [at, setAt] = useState("");
  const [problem, setProblem] = useState("");
  const aborting = useRef(null);
  useEffect(() => () => aborting.current?.abort(), []);
  const asked = prompts.split("\n").map((line) => line.trim()).filter(Boolean);
  const start = async (event) => {
    event.preventDefault();
    if (aborting.current) return; // a second click, before the first one is drawn
    aborting.current = new AbortController();
    setAt("Starting");
    setFound(null);
    setProblem("");
    try {
      setFound({ prompts: asked, answered: await askAll(lanes, asked, set, { maxTokens: Number(longest) || set.max_tokens, signal: aborting.current.signal }, setAt) });
    } catch (error) {
      if (error.name !== "AbortError") setProblem(error.message);
    }
    aborting.current = null;
    setAt("");
  };
  return html`
    <div class="stack">
      <form class="card stack" onSubmit=${start}>
        <p class="hint">Each lane answers the same prompts without chance (temperature 0), one lane after the other, so that they do not slow
          each other down. The others are compared with the first, token by token. <code>infermesh compare</code> asks and counts the same.</p>
        <label class="field"><span>Prompts, one a line</span>
          <textarea rows="4" dir="auto" value=${prompts} onInput=${(event) => setPrompts(event.target.value)}></textarea>
        </label>
        <div class="row compare-settings">
          <label>Tokens at most <input type="number" min="1" max="100000" value=${longest} onInput=${(event) => setLongest(event.target.value)} /></label>
          <span class="spacer"></span>
          <span role="status" class="hint">${at}</span>
          ${at
            ? html`<button key="stop" type="button" onClick=${() => aborting.current?.abort()}>Stop</button>`
            : html`<button key="run" type="submit" class="primary" disabled=${lanes.length < 2 || !asked.length}>${lanes.length < 2 ? "Add a lane to compare with" : "Compare the answers"}</button>`}
        </div>
        ${problem && html`<p class="ending error" role="alert">${problem}</p>`}
      </form>
      ${found && html`<${Found} ...${found} />`}
    </div>
  `;
}

// Asks one lane after the other; returns [{lane, replies}].
async function askAll(lanes, prompts, set, limits, tell) {
  const bases = await baseModels();
  limits.signal.throwIfAborted();
  const answered = [];
  for (const lane of lanes) {
    const options = { ...limits, isBase: bases.has(lane.model) };
    tell(`${lane.name}: loading`);
    await ask(lane, set.loading_prompt, { ...options, maxTokens: 1 });
    const replies = [];
    for (const prompt of prompts) {
      tell(`${lane.name}: prompt ${replies.length + 1} of ${prompts.length}`);
      replies.push(await ask(lane, prompt, options));
    }
    answered.push({ lane, replies });
  }
  return answered;
}

function Found({ prompts, answered }) {
  const [first, ...others] = answered;
  const rows = answered.map(({ lane, replies }) => [
    lane.name, [...new Set(replies.map(({ device, endpoint }) => `${device} ${endpoint}`.trim()))].sort().join(", "),
    replies === first.replies ? "–" : `${(100 * agreement(first.replies, replies)).toFixed(1)}%`,
    replies === first.replies ? "–" : `${wholeAnswers(first.replies, replies)} of ${replies.length}`,
    median(replies.map((reply) => reply.tokensPerS)).toFixed(1), `${Math.round(1000 * median(replies.map((reply) => reply.ttftS)))} ms`,
  ]);
  const differences = others.flatMap(({ lane, replies }) =>
    prompts.map((prompt, i) => ({ prompt, names: [first.lane.name, lane.name], found: firstDifference(first.replies[i], replies[i]) }))
      .filter(({ found }) => found));
  return html`
    <section class="card stack" aria-label="Agreement">
      <div class="table-scroll" tabindex="0" role="region" aria-label="Agreement of the lanes">
        <table class="wide-table">
          <thead><tr>${HEAD.map((title, i) => html`<th key=${title} class=${i > 1 ? "figure" : ""}>${title}</th>`)}</tr></thead>
          <tbody>${rows.map((row, r) => html`<tr key=${r}>${row.map((cell, i) => html`<td key=${i} class=${i > 1 ? "figure" : ""}>${cell}</td>`)}</tr>`)}</tbody>
        </table>
      </div>
      ${differences.length > 0 && html`<ul class="first-differences">${differences.map((each, i) => html`<${Difference} key=${i} ...${each} />`)}</ul>`}
      <div class="row end"><${CopyTable} head=${HEAD} rows=${rows} below=${differences.map(tell)} /></div>
    </section>
  `;
}

const shown = (prompt) => (prompt.length <= MOST_SHOWN ? prompt : `${prompt.slice(0, MOST_SHOWN)}…`);
const goesOn = (text) => (text ? JSON.stringify(text) : "ends");
const place = ({ token, before }) => `first difference at token ${token + 1}, after ${JSON.stringify(before)}`;

const tell = ({ prompt, names, found }) =>
  `- ${shown(prompt)}\n  ${place(found)}\n    ${names[0]}: ${goesOn(found.first)}\n    ${names[1]}: ${goesOn(found.second)}`;

const Difference = ({ prompt, names, found }) => html`
  <li>
    <strong dir="auto">${shown(prompt)}</strong>
    <p>${place(found)}</p>
    <dl><dt>${names[0]}</dt><dd dir="auto">${goesOn(found.first)}</dd><dt>${names[1]}</dt><dd dir="auto">${goesOn(found.second)}</dd></dl>
  </li>
`;

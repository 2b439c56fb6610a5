// The agreement of lanes: a set of prompts on each, one lane after the other; how much is the same, and where it parts.
import { html, useEffect, useState } from "../lib/html.js";
import { median } from "../lib/format.js";
import { endpointName } from "../lib/mesh_feed.js";
import { agreement, firstDifference, wholeAnswers } from "./agreement.js";
import { ask, baseModels } from "./ask.js";
import { FiguresTable } from "./figures_table.js";
import { useKept } from "./kept.js";
import { RunButton, runKey } from "./run_button.js";
import { Problems, createTask } from "./task.js";

const percentage = (part) => (part === null ? "–" : `${(100 * part).toFixed(1)}%`);
const COLUMNS = [
  { title: "device" },
  { title: "answered by" },
  { title: "agreement", show: percentage, copy: percentage },
  { title: "same", show: (text) => text },
  { title: "differs at", show: (text) => text },
  { title: "tokens/s", show: (perS) => perS.toFixed(1) },
  { title: "TTFT", unit: "ms", show: (ms) => `${Math.round(ms)} ms` },
];
const MOST_SHOWN = 40; // longest prompt that is shown, in characters

const task = createTask("Agreement");
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
  const [prompts, setPrompts] = useKept("prompts", set.prompts.join("\n"));
  const [longest, setLongest] = useKept("longest of several", String(set.max_tokens));
  const { at, found, problems } = task.use();
  const asked = prompts.split("\n").map((line) => line.trim()).filter(Boolean);
  const start = (event) => {
    event.preventDefault();
    task.start((work) => askAll(lanes, asked, set, Number(longest) || set.max_tokens, work));
  };
  return html`
    <div class="stack">
      <form class="card stack" onSubmit=${start} onKeyDown=${runKey}>
        <p class="hint">Each lane answers the same prompts without chance (temperature 0), one lane after the other, so that they do not slow
          each other down. The others are compared with the first, token by token. <code>infermesh compare</code> asks and counts the same.</p>
        <label class="field"><span>Prompts, one a line</span>
          <textarea rows="4" dir="auto" value=${prompts} onInput=${(event) => setPrompts(event.target.value)}></textarea>
        </label>
        <div class="row compare-settings">
          <label>Tokens at most <input type="number" min="1" max="100000" value=${longest} onInput=${(event) => setLongest(event.target.value)} /></label>
          <span class="spacer"></span>
          <span role="status" class="hint">${at}</span>
          <${RunButton} running=${Boolean(at)} disabled=${lanes.length < 2 || !asked.length} onStop=${task.stop}>
            ${lanes.length < 2 ? "Add a lane to compare with" : "Compare the answers"}
          <//>
        </div>
        <${Problems} list=${problems} />
      </form>
      ${found && html`<${Found} ...${found} />`}
    </div>
  `;
}

// Asks one lane after the other; shows those that have answered all prompts.
async function askAll(lanes, prompts, set, maxTokens, { signal, tell, show, eachLane }) {
  const bases = await baseModels(signal);
  const answered = [];
  await eachLane(lanes, async (lane) => {
    const options = { maxTokens, signal, isBase: bases.has(lane.model) };
    tell(`${lane.name}, loading`);
    await ask(lane, set.loading_prompt, { ...options, maxTokens: 1 });
    const replies = [];
    for (const prompt of prompts) {
      tell(`${lane.name}, prompt ${replies.length + 1} of ${prompts.length}`);
      replies.push(await ask(lane, prompt, options));
    }
    answered.push({ lane, replies });
    show({ prompts, answered: [...answered] });
  });
}

function Found({ prompts, answered }) {
  const [first, ...others] = answered;
  const rows = answered.map(({ lane, replies }) => [
    lane.name, [...new Set(replies.map(({ endpoint }) => endpointName(endpoint)))].sort().join(", "),
    ...(replies === first.replies ? [null, "–", "–"] : compared(first.replies, replies)),
    median(replies.map((reply) => reply.tokensPerS)), 1000 * median(replies.map((reply) => reply.ttftS)),
  ]);
  const differences = others.flatMap(({ lane, replies }) =>
    prompts.map((prompt, i) => ({ prompt, names: [first.lane.name, lane.name], found: firstDifference(first.replies[i], replies[i]) }))
      .filter(({ found }) => found));
  return html`
    <section class="card stack" aria-label="Agreement">
      <${FiguresTable} label="Agreement of the lanes" columns=${COLUMNS} rows=${rows} below=${differences.map(tell)}>
        ${differences.length > 0 && html`<ul class="first-differences">${differences.map((each, i) => html`<${Difference} key=${i} ...${each} />`)}</ul>`}
      <//>
    </section>
  `;
}

// What the row of a lane says about the first one.
function compared(first, replies) {
  const tokens = first.map((one, i) => firstDifference(one, replies[i])?.token).filter((token) => token !== undefined);
  return [agreement(first, replies), `${wholeAnswers(first, replies)} of ${replies.length}`, tokens.length ? `token ${Math.min(...tokens) + 1}` : "–"];
}

const shown = (prompt) => (prompt.length <= MOST_SHOWN ? prompt : `${prompt.slice(0, MOST_SHOWN)}…`);
const goesOn = (text) => (text ? JSON.stringify(text) : "ends");
const ALIKE = "the texts are the same, made of other tokens";
const isAlike = ({ first, second }) => !first && !second;
const place = ({ token, before }) => `first difference at token ${token + 1}, after ${JSON.stringify(before)}`;

const tell = ({ prompt, names, found }) => {
  const ends = isAlike(found) ? [ALIKE] : [`${names[0]}: ${goesOn(found.first)}`, `${names[1]}: ${goesOn(found.second)}`];
  return [`- ${shown(prompt)}`, `  ${place(found)}`, ...ends.map((end) => `    ${end}`)].join("\n");
};

const Difference = ({ prompt, names, found }) => html`
  <li>
    <strong dir="auto">${shown(prompt)}</strong>
    <p>${place(found)}</p>
    ${isAlike(found)
      ? html`<p>${ALIKE}</p>`
      : html`<dl><dt>${names[0]}</dt><dd dir="auto">${goesOn(found.first)}</dd><dt>${names[1]}</dt><dd dir="auto">${goesOn(found.second)}</dd></dl>`}
  </li>
`;

// One prompt in every lane at once: the answers side by side, their figures, and where they differ.
import { html } from "../lib/html.js";
import { plural } from "../lib/format.js";
import { startRun } from "../lib/run.js";
import { createStore, useStore } from "../lib/store.js";
import { Answers } from "./answers.js";
import { baseModels } from "./ask.js";
import { useKept } from "./kept.js";
import { Outcome } from "./outcome.js";
import { RunButton, runKey } from "./run_button.js";
import { Problems } from "./task.js";
import { endTurn, takeTurn } from "./turn.js";

const FIRST_PROMPT = "Explain in a few sentences why the sky is blue.";
const store = createStore({ runs: [], drawn: 0, starting: null, problems: [] }); // goes on while another room is shown
let waiting = false;

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    store.set(({ drawn }) => ({ drawn: drawn + 1 }));
  });
}

const isLive = ({ runs, starting }) => starting !== null || runs.some(({ run }) => run.live);

async function start(lanes, prompt, common) {
  if (isLive(store.get())) return; // a second click, before the first one is drawn
  const refusal = takeTurn("One prompt");
  if (refusal) return store.set({ problems: [refusal] });
  const starting = new AbortController();
  store.set({ starting, problems: [] });
  const bases = await baseModels(starting.signal).catch(() => new Set()); // each lane will say what is wrong
  if (starting.signal.aborted) return; // stop() has ended its turn
  const asked = (model) => (bases.has(model) ? { prompt } : { messages: [{ role: "user", content: prompt }] });
  const runs = lanes.map((lane) => ({
    lane, run: startRun({ ...common, ...asked(lane.model), model: lane.model, ...(lane.device ? { device: lane.device } : {}) }, draw),
  }));
  store.set({ runs, starting: null });
  await Promise.all(runs.map(({ run }) => run.ended));
  endTurn();
}

function stop() {
  const { runs, starting } = store.get();
  if (starting) {
    starting.abort();
    store.set({ starting: null });
    endTurn();
  }
  runs.forEach(({ run }) => run.stop());
}

function said({ runs, starting }) {
  if (starting) return "Starting";
  const ended = runs.filter(({ run }) => !run.live).length;
  return ended < runs.length ? `${ended} of ${plural(runs.length, "lane")} done` : runs.length ? "All lanes have ended" : "";
}

export function SideBySide({ lanes }) {
  const [prompt, setPrompt] = useKept("prompt", FIRST_PROMPT);
  const [longest, setLongest] = useKept("longest", "256");
  const [temperature, setTemperature] = useKept("temperature", "0");
  const state = useStore(store);
  const live = isLive(state);
  const submit = (event) => {
    event.preventDefault();
    start(lanes, prompt, { max_tokens: Number(longest) || 256, temperature: Number(temperature), seed: 1 });
  };
  return html`
    <div class="stack">
      <form class="card stack" onSubmit=${submit} onKeyDown=${runKey}>
        <label class="field"><span>Prompt</span>
          <textarea rows="3" dir="auto" value=${prompt} onInput=${(event) => setPrompt(event.target.value)}></textarea>
        </label>
        <div class="row compare-settings">
          <label>Longest answer <input type="number" min="1" max="100000" value=${longest} onInput=${(event) => setLongest(event.target.value)} /></label>
          <label>Temperature <input type="number" min="0" max="2" step="0.1" value=${temperature} onInput=${(event) => setTemperature(event.target.value)} /></label>
          <span class="spacer"></span>
          <span role="status" class="hint">${said(state)}</span>
          <${RunButton} running=${live} disabled=${!prompt.trim() || !lanes.length} onStop=${stop}>Run in ${lanes.length === 1 ? "one lane" : plural(lanes.length, "lane")}<//>
        </div>
        <${Problems} list=${state.problems} />
      </form>
      ${state.runs.length > 0 && html`<${Answers} runs=${state.runs} live=${live} />`}
      ${state.runs.length > 0 && !live && html`<${Outcome} runs=${state.runs} />`}
    </div>
  `;
}

// One prompt in every lane at once: the answers side by side, their figures, and where they differ.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { startRun } from "../lib/run.js";
import { Answers } from "./answers.js";
import { Outcome } from "./outcome.js";

const FIRST_PROMPT = "Explain in a few sentences why the sky is blue.";

export function SideBySide({ lanes }) {
  const [prompt, setPrompt] = useState(FIRST_PROMPT);
  const [longest, setLongest] = useState("256");
  const [temperature, setTemperature] = useState("0");
  const [runs, setRuns] = useState([]);
  const [, redraw] = useState(0);
  const waiting = useRef(false);
  const draw = () => {
    if (waiting.current) return;
    waiting.current = true;
    requestAnimationFrame(() => {
      waiting.current = false;
      redraw((before) => before + 1);
    });
  };
  const live = runs.some(({ run }) => run.live);
  const start = (event) => {
    event.preventDefault();
    const common = { messages: [{ role: "user", content: prompt }], max_tokens: Number(longest) || 256, temperature: Number(temperature), seed: 1 };
    setRuns(lanes.map((lane) => ({
      lane, run: startRun({ ...common, model: lane.model, ...(lane.device ? { device: lane.device } : {}) }, draw),
    })));
  };
  const stop = () => runs.forEach(({ run }) => run.stop());
  const stopLast = useRef(stop);
  stopLast.current = stop;
  useEffect(() => () => stopLast.current(), []);
  return html`
    <div class="stack">
      <form class="card stack" onSubmit=${start}>
        <label class="field"><span>Prompt</span>
          <textarea rows="3" dir="auto" value=${prompt} onInput=${(event) => setPrompt(event.target.value)}></textarea>
        </label>
        <div class="row compare-settings">
          <label>Longest answer <input type="number" min="1" max="100000" value=${longest} onInput=${(event) => setLongest(event.target.value)} /></label>
          <label>Temperature <input type="number" min="0" max="2" step="0.1" value=${temperature} onInput=${(event) => setTemperature(event.target.value)} /></label>
          <span class="spacer"></span>
          ${live
            ? html`<button key="stop" type="button" onClick=${stop}>Stop</button>`
            : html`<button key="run" type="submit" class="primary" disabled=${!prompt.trim() || !lanes.length}>Run in ${lanes.length === 1 ? "one lane" : `${lanes.length} lanes`}</button>`}
        </div>
      </form>
      ${runs.length > 0 && html`<${Answers} runs=${runs} live=${live} />`}
      ${runs.length > 0 && !live && html`<${Outcome} runs=${runs} />`}
    </div>
  `;
}

// A question by sound: records the microphone or takes a file, and has a model of the mesh write down what is said.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { load } from "../lib/load.js";
import { IconButton, notify } from "../lib/ui.js";

const loadSound = () => load(new URL("../lib/sound.js", import.meta.url).href);

const notLoaded = () => notify("Sound could not be loaded: the mesh does not answer.", "error");

// onEnd is called with what was said, or with "" when nothing is to be added. A `file` is written down at once.
export function Voice({ model: loaded, file, onEnd }) {
  const [model] = useState(loaded); // it may be unloaded meanwhile; the mesh loads it again then
  const [state, setState] = useState("idle"); // then "recording" or "writing"
  const [can, setCan] = useState(null);
  const recording = useRef(null);
  const aborting = useRef(new AbortController());
  useEffect(() => void loadSound().then(({ hasMicrophone }) => setCan(hasMicrophone()), notLoaded), []);
  useEffect(() => () => {
    recording.current?.cancel();
    aborting.current.abort();
  }, []);
  // Runs one step. What goes wrong is told, and the strip stays, to try again.
  const step = async (next, work) => {
    setState(next);
    try {
      await work(await loadSound());
    } catch (error) {
      if (error.name === "AbortError") return;
      notify(error.message, "error");
      setState("idle");
    }
  };
  const write = (take) => step("writing", async ({ transcribe }) => {
    const told = await transcribe(model.name, await take(), aborting.current.signal);
    onEnd(told.text.trim());
  });
  useEffect(() => void (file && write(async () => file)), []);
  const begin = () => step("asking", async ({ record }) => {
    recording.current = await record();
    if (aborting.current.signal.aborted) return recording.current.cancel(); // closed while the browser asked
    setState("recording");
  });
  const end = () => {
    const { stop } = recording.current;
    recording.current = null;
    write(stop);
  };
  return html`
    <div class="voice" role="group" aria-label="Ask by sound">
      ${state === "idle" && html`<${Choices} can=${can} onRecord=${begin} onFile=${(file) => write(async () => file)} />`}
      ${state === "recording" && html`<${Recording} onDone=${end} />`}
      <span role="status" class="hint">${TOLD[state]?.(model.name)}</span>
      <span class="spacer"></span>
      <${IconButton} icon="close" label="No sound" onClick=${() => onEnd("")} />
    </div>
  `;
}

const TOLD = {
  asking: () => "Waiting for the browser to allow the microphone…",
  recording: () => "Listening",
  writing: (model) => `${model} writes down what is said…`,
};

function Choices({ can, onRecord, onFile }) {
  const input = useRef(null);
  return html`
    ${can && html`<button type="button" class="small" onClick=${onRecord}>Record</button>`}
    <button type="button" class="small" onClick=${() => input.current.click()}>Sound file…</button>
    <input ref=${input} type="file" accept="audio/*,video/*" hidden aria-label="Sound file" onChange=${(event) => event.target.files.length && onFile(event.target.files[0])} />
    ${can === false && html`<span class="hint">Browsers lend the microphone only over https, or on the mesh's own machine.</span>`}
  `;
}

function Recording({ onDone }) {
  const [seconds, setSeconds] = useState(0);
  const done = useRef(null);
  useEffect(() => {
    done.current.focus();
    const ticking = setInterval(() => setSeconds((passed) => passed + 1), 1000);
    return () => clearInterval(ticking);
  }, []);
  return html`
    <span class="dot-live" aria-hidden="true"></span>
    <span class="figure" aria-hidden="true">${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}</span>
    <button type="button" class="small primary" ref=${done} onClick=${onDone}>Done</button>
  `;
}

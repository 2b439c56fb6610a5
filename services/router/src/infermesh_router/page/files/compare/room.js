// Compares devices and models: one prompt in lanes side by side, the agreement over several, and a small benchmark.
import { html, useEffect } from "../lib/html.js";
import { DeviceSelect, ModelSelect, isAccelerator, listModels, runtimeOf } from "../lib/choices.js";
import { endpointName, mesh } from "../lib/mesh_feed.js";
import { colorOf } from "../lib/plots.js";
import { useStore } from "../lib/store.js";
import { addStyle } from "../lib/styles.js";
import { IconButton } from "../lib/ui.js";
import { Agreeing } from "./agreeing.js";
import { Benchmark } from "./benchmark.js";
import { useKept } from "./kept.js";
import { SideBySide } from "./side_by_side.js";

await addStyle("compare");

const MOST_LANES = 4; // a browser opens six connections to a host, and the page needs some of them
const VIEWS = { prompt: "One prompt", agreement: "Agreement", benchmark: "Benchmark" };
let nextLane = 1;

// A lane with a colour that none of the others has.
function newLane(lanes, model, device) {
  const free = [...Array(MOST_LANES).keys()].find((index) => lanes.every((lane) => lane.colorIndex !== index));
  return { id: nextLane++, model, device, colorIndex: free, color: colorOf(free) };
}

export function CompareRoom() {
  const endpoints = useStore(mesh, (state) => state.endpoints);
  const [lanes, setLanes] = useKept("lanes", []);
  const [view, setView] = useKept("view", "prompt");
  useEffect(() => {
    if (!lanes.length && listModels(endpoints, "generate").length) setLanes(firstLanes(endpoints));
  }, [endpoints]);
  const named = withNames(lanes, endpoints);
  const set = (id, change) => setLanes(lanes.map((lane) => (lane.id === id ? { ...lane, ...change } : lane)));
  return html`
    <div class="page-room compare">
      <div class="page-head">
        <div><h1>Compare</h1><p>Ask several devices or models the same.</p></div>
        <span class="spacer"></span>
        <div class="spans" role="group" aria-label="What to compare">
          ${Object.entries(VIEWS).map(([name, title]) => html`
            <button type="button" key=${name} aria-pressed=${view === name ? "true" : "false"} onClick=${() => setView(name)}>${title}</button>`)}
        </div>
      </div>
      <section class="card lanes" aria-label="Lanes">
        ${named.map((lane, i) => html`
          <div class="lane-choice" key=${lane.id} role="group" aria-label=${`Lane ${i + 1}`}>
            <svg viewBox="0 0 10 10" width="12" height="12" aria-hidden="true"><rect width="10" height="10" rx="2.5" fill=${lane.color} /></svg>
            <${ModelSelect} id=${`lane-model-${lane.id}`} value=${lane.model} onChange=${(model) => set(lane.id, { model })} />
            <${DeviceSelect} id=${`lane-device-${lane.id}`} value=${lane.device} onChange=${(device) => set(lane.id, { device })} />
            <${IconButton} icon="close" label=${`Remove lane ${i + 1}`} disabled=${lanes.length < 2} onClick=${() => setLanes(lanes.filter((each) => each.id !== lane.id))} />
          </div>`)}
        <button type="button" class="quiet" disabled=${lanes.length >= MOST_LANES || !lanes.length}
          onClick=${() => setLanes([...lanes, newLane(lanes, lanes.at(-1).model, "")])}>Add a lane</button>
      </section>
      <div hidden=${view !== "prompt"}><${SideBySide} lanes=${named} /></div>
      <div hidden=${view !== "agreement"}><${Agreeing} lanes=${named} /></div>
      <div hidden=${view !== "benchmark"}><${Benchmark} lanes=${named} /></div>
    </div>
  `;
}

// The CPU against an accelerator if there is one, else the first two endpoints, else one lane.
function firstLanes(endpoints) {
  const model = listModels(endpoints, "generate")[0];
  const able = endpoints.filter((each) => each.available.some(({ name }) => name === model.name) || each.models.some(({ name }) => name === model.name));
  const accelerator = able.find(isAccelerator), cpu = able.find((each) => !isAccelerator(each));
  const two = accelerator && cpu ? [cpu, accelerator] : able.slice(0, 2);
  return two.reduce((lanes, each) => [...lanes, newLane(lanes, model.name, each.address)], []);
}

// Lanes that would have one name are numbered.
function withNames(lanes, endpoints) {
  const names = lanes.map((lane) => nameOf(lane, lanes, endpoints));
  return lanes.map((lane, i) => {
    const before = names.slice(0, i).filter((name) => name === names[i]).length;
    return { ...lane, name: before ? `${names[i]} (${before + 1})` : names[i] };
  });
}

function nameOf(lane, lanes, endpoints) {
  const endpoint = endpoints.find((each) => each.address === lane.device);
  const runtime = endpoint && runtimeOf(endpoint, endpoints);
  const device = { "": "auto", gpu: "GPU", cpu: "CPU" }[lane.device] ?? `${endpointName(lane.device)}${runtime ? ` (${runtime})` : ""}`;
  return lanes.every((each) => each.model === lane.model) ? device : `${device}, ${lane.model}`;
}

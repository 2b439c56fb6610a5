// What a request may name: models of a kind, and devices; and the selectors for both.
import { html } from "./html.js";
import { mesh } from "./mesh_feed.js";
import { bytes } from "./format.js";
import { useStore } from "./store.js";

const ACCELERATORS = new Set(["xpu", "cuda"]);

// The models of the mesh by name: what one is, and the addresses that have it loaded, load it, failed to, or have it on disk.
// load_fraction is that of the endpoint that is farthest.
export function listModels(endpoints, kind = "") {
  const found = new Map();
  for (const endpoint of endpoints) {
    for (const model of [...endpoint.models, ...endpoint.available]) {
      if (kind && model.kind !== kind) continue;
      const known = found.get(model.name) || { ...model, load_fraction: undefined, loadedOn: [], loadingOn: [], failedOn: [], onDiskOf: [] };
      found.set(model.name, known);
      known.takes_images ||= model.takes_images;
    }
    for (const model of endpoint.models) if (found.has(model.name)) noteState(found.get(model.name), model, endpoint.address);
    for (const { name } of endpoint.available) found.get(name)?.onDiskOf.push(endpoint.address);
  }
  return [...found.values()].sort((a, b) => b.loadedOn.length - a.loadedOn.length || a.name.localeCompare(b.name));
}

function noteState(known, { state, pinned, load_fraction: fraction }, address) {
  known.pinned ||= pinned;
  known[{ ready: "loadedOn", loading: "loadingOn", failed: "failedOn" }[state]]?.push(address);
  if (state === "loading" && fraction !== undefined) known.load_fraction = Math.max(known.load_fraction ?? 0, fraction);
}

export const isAccelerator = (endpoint) => ACCELERATORS.has(endpoint.device.kind);

// What tells two workers on one kind of device apart, as "openvino" and "torch" do; "" if there is no need.
export function runtimeOf(endpoint, endpoints) {
  const alike = endpoints.filter((each) => each.device.kind === endpoint.device.kind);
  return alike.some((each) => each.runtime !== endpoint.runtime) ? endpoint.runtime.split(" ")[0] : "";
}

// What people call an endpoint among these.
export const describeEndpoint = (endpoint, endpoints) =>
  [endpoint.name, runtimeOf(endpoint, endpoints), endpoint.device.name].filter(Boolean).join(" · ") || endpoint.address;

export function DeviceSelect({ value, onChange, label = "Device", id }) {
  const endpoints = useStore(mesh, (state) => state.endpoints);
  const known = ["", "gpu", "cpu"].includes(value) || endpoints.some((each) => each.address === value);
  return html`
    <label class="select" for=${id}>
      <span class="select-label">${label}</span>
      <select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
        <optgroup label="Let the mesh choose">
          <option value="">Auto</option>
          <option value="gpu" disabled=${!endpoints.some(isAccelerator)}>GPU</option>
          <option value="cpu">CPU</option>
        </optgroup>
        <optgroup label="Endpoints">
          ${endpoints.map((each) => html`
            <option key=${each.address} value=${each.address}>
              ${describeEndpoint(each, endpoints)}${each.state === "ready" ? "" : ` (${each.state})`}
            </option>`)}
          ${!known && html`<option value=${value}>${value} (gone)</option>`}
        </optgroup>
      </select>
    </label>
  `;
}

export function ModelSelect({ value, onChange, kind = "generate", label = "Model", id }) {
  const endpoints = useStore(mesh, (state) => state.endpoints);
  const models = listModels(endpoints, kind);
  const loaded = models.filter((model) => model.loadedOn.length);
  const others = models.filter((model) => !model.loadedOn.length);
  const option = (model) => html`
    <option key=${model.name} value=${model.name}>
      ${model.name}${!model.loadedOn.length && model.size_bytes ? ` (${bytes(model.size_bytes)})` : ""}
    </option>`;
  return html`
    <label class="select" for=${id}>
      <span class="select-label">${label}</span>
      <select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
        ${!models.length && html`<option value="">No model yet</option>`}
        ${value && !models.some((model) => model.name === value) && html`<option value=${value}>${value} (not here)</option>`}
        ${loaded.length > 0 && html`<optgroup label="Loaded">${loaded.map(option)}</optgroup>`}
        ${others.length > 0 && html`<optgroup label="On disk; loaded when asked">${others.map(option)}</optgroup>`}
      </select>
    </label>
  `;
}

// The models on an endpoint; loads, pins and unloads them where the caller may.
import { html, useState } from "../lib/html.js";
import { postJson } from "../lib/api.js";
import { bytes, count, duration, percent } from "../lib/format.js";
import { refresh } from "../lib/mesh_feed.js";
import { Icon } from "../lib/icons.js";
import { notify } from "../lib/ui.js";

// Asks an operator's call about a model; tells what went wrong.
export async function manage(model, verb, body) {
  try {
    const told = await postJson(`mesh/v1/models/${encodeURIComponent(model)}:${verb}`, body);
    await refresh();
    if (told.unloaded?.length) notify(`${told.unloaded.join(", ")} was unloaded to make room.`);
    return true;
  } catch (error) {
    notify(error.message, "error");
    return false;
  }
}

export function LoadedModels({ endpoint, mayManage }) {
  const others = endpoint.available.filter((model) => !endpoint.models.some((each) => each.name === model.name));
  return html`
    <ul class="model-list">
      ${endpoint.models.map((model) => html`<${Loaded} key=${model.name} model=${model} endpoint=${endpoint} mayManage=${mayManage} />`)}
      ${!endpoint.models.length && html`<li class="hint">No model is loaded.</li>`}
    </ul>
    ${mayManage && others.length > 0 && html`<${LoadMore} models=${others} endpoint=${endpoint} />`}
  `;
}

function Loaded({ model, endpoint, mayManage }) {
  const [busy, setBusy] = useState(false);
  const act = (verb, body) => async () => {
    setBusy(true);
    await manage(model.name, verb, body);
    setBusy(false);
  };
  const loading = model.state === "loading", failed = model.state === "failed";
  return html`
    <li>
      <span class="model-name">${model.name}${model.pinned && html` <span class="pinned" title="Stays loaded"><${Icon} name="pin" /><span class="off-screen">pinned</span></span>`}</span>
      <span class="model-facts">${facts(model)}</span>
      ${loading && html`<progress max="1" value=${model.load_fraction} aria-label=${`Loading ${model.name}`}></progress>`}
      ${mayManage && !loading && html`
        <span class="model-actions">
          ${!model.pinned && !failed && html`<button type="button" class="quiet small" disabled=${busy} aria-label=${`Pin ${model.name}`} onClick=${act("load", { pinned: true, device: endpoint.address })}>Pin</button>`}
          <button type="button" class="quiet small" disabled=${busy} aria-label=${`Unload ${model.name} everywhere`} title="Unloads it from every endpoint" onClick=${act("unload", {})}>Unload</button>
        </span>`}
    </li>
  `;
}

function facts(model) {
  if (model.state === "loading") {
    const left = model.load_left_s === undefined ? "" : `, ${duration(1000 * model.load_left_s)} left`;
    return `loading${model.load_fraction === undefined ? "" : ` ${percent(model.load_fraction)}`}${left}`;
  }
  if (model.state === "failed") return "failed to load";
  const told = [];
  if (model.memory_bytes) told.push(bytes(model.memory_bytes));
  if (model.context_length) told.push(`${count(model.context_length)} tokens`);
  if (model.sequences) told.push(`${count(model.sequences)} at work`);
  return told.join(" · ");
}

function LoadMore({ models, endpoint }) {
  const [chosen, setChosen] = useState("");
  const [busy, setBusy] = useState(false);
  const name = models.some((model) => model.name === chosen) ? chosen : models[0].name;
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    await manage(name, "load", { device: endpoint.address });
    setBusy(false);
  };
  return html`
    <form class="load-more" onSubmit=${submit}>
      <select aria-label=${`Model to load on ${endpoint.name}`} value=${name} onChange=${(event) => setChosen(event.target.value)}>
        ${models.map((model) => html`<option key=${model.name} value=${model.name}>${model.name}${model.size_bytes ? ` (${bytes(model.size_bytes)})` : ""}</option>`)}
      </select>
      <button type="submit" class="small" disabled=${busy}>${busy ? "Loading…" : "Load"}</button>
    </form>
  `;
}

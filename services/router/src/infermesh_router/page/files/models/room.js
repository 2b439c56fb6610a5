// The models: what is loaded, what is on disk, and a place to try each kind.
import { html, useState } from "../lib/html.js";
import { listModels } from "../lib/choices.js";
import { bytes, count, plural } from "../lib/format.js";
import { endpointName, mesh } from "../lib/mesh_feed.js";
import { useStore } from "../lib/store.js";
import { addStyle } from "../lib/styles.js";
import { Dialog, Empty } from "../lib/ui.js";
import { ManageHint, manage } from "../mesh/models.js";
import { TRIALS } from "./trials.js";

await addStyle("models");

const KINDS = {
  generate: "writes text", embed: "text to vectors", rerank: "sorts documents", infer: "tensors", transcribe: "sound to text", speak: "text to sound",
};

export function ModelsRoom() {
  const { endpoints, mayManage } = useStore(mesh);
  const [tried, setTried] = useState(null);
  const models = listModels(endpoints);
  if (!models.length) return html`<${Empty} title="No models yet">infermesh models import SOURCE brings one, for example from Hugging Face.<//>`;
  const Trial = tried && TRIALS[tried.kind];
  return html`
    <div class="page-room">
      <div class="page-head">
        <div><h1>Models</h1><p>${plural(models.filter((model) => model.loadedOn.length).length, "model")} loaded, ${count(models.length)} known. A request for one that is not loaded loads it.</p></div>
      </div>
      <section class="card model-table">
        <div class="table-scroll" tabindex="0" role="region" aria-label="Models">
          <table class="wide-table">
            <thead><tr><th>Model</th><th>What it does</th><th class="figure">Size</th><th class="figure">Context</th><th>Loaded on</th><th><span class="off-screen">What to do</span></th></tr></thead>
            <tbody>${models.map((model) => html`<${Row} key=${model.name} model=${model} mayManage=${mayManage} onTry=${() => tryOut(model, setTried)} />`)}</tbody>
          </table>
        </div>
        <p class="hint">To add one: <code>infermesh models import SOURCE</code>, on the machine whose workers shall have it.</p>
        ${!mayManage && html`<${ManageHint} />`}
      </section>
    </div>
    ${tried && html`<${Dialog} title=${`Try ${tried.name}`} onClose=${() => setTried(null)}><${Trial} model=${tried} /><//>`}
  `;
}

function tryOut(model, open) {
  if (model.kind !== "generate") return open(model);
  location.hash = `#/chat/new/${encodeURIComponent(model.name)}`;
}

function Row({ model, mayManage, onTry }) {
  const [busy, setBusy] = useState(false);
  const loaded = model.loadedOn.length > 0;
  const act = async () => {
    setBusy(true);
    await manage(model.name, loaded ? "unload" : "load", {});
    setBusy(false);
  };
  return html`
    <tr>
      <td><span class="model-title">${model.name}</span></td>
      <td>${KINDS[model.kind] || model.kind}${model.takes_images ? ", takes pictures" : ""}</td>
      <td class="figure">${model.size_bytes ? bytes(model.size_bytes) : "–"}</td>
      <td class="figure">${model.context_length ? count(model.context_length) : "–"}</td>
      <td>${loaded ? model.loadedOn.map(endpointName).join(", ") : html`<span class="hint">on disk</span>`}</td>
      <td class="row end">
        ${mayManage && html`<button type="button" class="small" disabled=${busy} onClick=${act} aria-label=${busy ? undefined : `${loaded ? "Unload" : "Load"} ${model.name}`}>${busy ? "Working…" : loaded ? "Unload" : "Load"}</button>`}
        ${(model.kind === "generate" || TRIALS[model.kind]) && html`<button type="button" class="small" onClick=${onTry} aria-label=${`Try it: ${model.name}`}>Try it</button>`}
      </td>
    </tr>
  `;
}

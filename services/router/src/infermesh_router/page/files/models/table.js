// The table of models: those that are loaded, those on disk, and those that can be imported.
import { html, useState } from "../lib/html.js";
import { bytes, count, percent } from "../lib/format.js";
import { Icon } from "../lib/icons.js";
import { endpointName } from "../lib/mesh_feed.js";
import { manage } from "../mesh/models.js";
import { TRIALS } from "./trials.js";

const KINDS = {
  generate: "writes text", embed: "text to vectors", rerank: "sorts documents", infer: "tensors", transcribe: "sound to text", speak: "text to sound",
};
const COLUMNS = 6;

export function ModelTable({ models, known, mayManage, onTry, onRemove, onImport }) {
  const loaded = models.filter(({ loadedOn, loadingOn, failedOn }) => loadedOn.length || loadingOn.length || failedOn.length);
  const onDisk = models.filter((model) => !loaded.includes(model));
  const row = (model) => html`<${Row} key=${model.name} model=${model} mayManage=${mayManage} onTry=${onTry} onRemove=${onRemove} />`;
  return html`
    <div class="table-scroll" tabindex="0" role="region" aria-label="Models">
      <table class="wide-table models">
        <thead><tr><th>Model</th><th>What it does</th><th class="figure">Size</th><th class="figure">Context</th><th>Where</th><th><span class="off-screen">What to do</span></th></tr></thead>
        <${Group} title="Loaded" none="None. A request for one that is on disk loads it.">${loaded.map(row)}<//>
        <${Group} title="On disk" none="No others.">${onDisk.map(row)}<//>
        <${Group} title="Can be imported" none="All that this page knows of are here.">
          ${known.map((model) => html`<${Known} key=${model.name} model=${model} mayManage=${mayManage} onImport=${onImport} />`)}
        <//>
      </table>
    </div>
  `;
}

const Group = ({ title, none, children }) => html`
  <tbody>
    <tr class="group"><th colspan=${COLUMNS} scope="rowgroup">${title}</th></tr>
    ${children.length ? children : html`<tr><td colspan=${COLUMNS} class="hint">${none}</td></tr>`}
  </tbody>
`;

const Figure = ({ label, text }) => html`<td class=${`figure ${text ? "" : "none"}`} data-label=${label}>${text || "–"}</td>`;

const Facts = ({ model, note }) => html`
  <td><span class="model-title">${model.name}</span>${model.pinned && html` <span class="pinned" title="Stays loaded"><${Icon} name="pin" /><span class="off-screen">pinned</span></span>`}</td>
  <td>${KINDS[model.kind] || model.kind}${model.takes_images ? ", takes pictures" : ""}${note && html`<br /><span class="hint">${note}</span>`}</td>
  <${Figure} label="Size" text=${model.size_bytes ? bytes(model.size_bytes) : ""} />
  <${Figure} label="Context" text=${model.context_length ? count(model.context_length) : ""} />
`;

function Row({ model, mayManage, onTry, onRemove }) {
  const [busy, setBusy] = useState(false);
  const loaded = model.loadedOn.length > 0;
  const failed = model.failedOn.length > 0;
  const loading = !loaded && !failed && model.loadingOn.length > 0;
  const held = loaded || failed;
  const act = async () => {
    setBusy(true);
    await manage(model.name, held ? "unload" : "load", {});
    setBusy(false);
  };
  return html`
    <tr>
      <${Facts} model=${model} />
      <td><${Where} model=${model} /></td>
      <td><div class="row end">
        ${mayManage && !loading && html`<button type="button" class="small" disabled=${busy} onClick=${act} aria-label=${busy ? undefined : `${held ? "Unload" : "Load"} ${model.name}`}>${busy ? "Working…" : held ? "Unload" : "Load"}</button>`}
        ${mayManage && !loading && !held && html`<button type="button" class="small" disabled=${busy} onClick=${() => onRemove(model)} aria-label=${`Remove ${model.name}`}>Remove</button>`}
        ${(model.kind === "generate" || TRIALS[model.kind]) && html`<button type="button" class="small" onClick=${() => onTry(model)} aria-label=${`Try it: ${model.name}`}>Try it</button>`}
      </div></td>
    </tr>
  `;
}

// Where it is: what takes requests in plain text, the rest as a hint.
function Where({ model: { loadedOn, loadingOn, failedOn, load_fraction: fraction } }) {
  const names = (addresses) => addresses.map(endpointName).join(", ");
  const hints = [
    loadingOn.length > 0 && `loading on ${names(loadingOn)}${fraction === undefined ? "" : `, ${percent(fraction)}`}`,
    failedOn.length > 0 && `failed to load on ${names(failedOn)}`,
  ].filter(Boolean);
  if (!loadedOn.length && !hints.length) return html`<span class="hint">on disk</span>`;
  return html`${names(loadedOn)}${hints.map((hint) => html` <span class="hint" key=${hint}>${hint}</span>`)}`;
}

const Known = ({ model, mayManage, onImport }) => html`
  <tr>
    <${Facts} model=${model} note=${model.about} />
    <td><span class="hint">${place(model.source)}</span></td>
    <td><div class="row end">
      ${mayManage && html`<button type="button" class="small" onClick=${() => onImport(model)} aria-label=${`Fill in the import of ${model.name}`}>Import…</button>`}
    </div></td>
  </tr>
`;

const PLACES = { pypi: "Python package index", npm: "npm", hf: "Hugging Face" };
const place = (source) => PLACES[source.split(":")[0]] || source;

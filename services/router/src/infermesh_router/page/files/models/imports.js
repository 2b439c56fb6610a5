// Imports that run and the last ones that ended: how far each is, its end, and what can be done with it.
import { html, useState } from "../lib/html.js";
import { postJson } from "../lib/api.js";
import { bytes, percent } from "../lib/format.js";
import { endpointName, mesh } from "../lib/mesh_feed.js";
import { notify } from "../lib/ui.js";

const MOST_SHOWN = 6;

// Shows an import as an answer told of it; the next snapshot of the mesh takes its place.
export const put = (told) =>
  mesh.set(({ imports }) => ({ imports: [told, ...imports.filter((each) => each.import_id !== told.import_id)] }));

export function Imports({ imports, models, mayManage, onTry, onAgain }) {
  if (!imports.length) return null;
  return html`
    <ul class="imports" aria-label="Imports">
      ${imports.slice(0, MOST_SHOWN).map((each) => html`
        <${One} key=${each.import_id} told=${each} model=${models.find((model) => model.name === each.name)} mayManage=${mayManage} onTry=${onTry} onAgain=${onAgain} />`)}
    </ul>
  `;
}

const ENDS = { done: "Imported", failed: "Failed", cancelled: "Cancelled" };

function One({ told, model, mayManage, onTry, onAgain }) {
  const running = told.state === "running";
  return html`
    <li class=${told.state}>
      <div class="import-head">
        <strong>${told.name}</strong>
        <span class="hint">${told.source}${told.endpoint ? ` to ${endpointName(told.endpoint)}` : ""}</span>
        <span class="spacer"></span>
        <span role="status" class="import-state">${ENDS[told.state] || "Importing"}</span>
        ${running && mayManage && html`<${Cancel} told=${told} />`}
        ${mayManage && ["failed", "cancelled"].includes(told.state) && html`<button type="button" class="small" onClick=${() => onAgain(told)} aria-label=${`Fill in the import of ${told.name} again`}>Again…</button>`}
        ${told.state === "done" && model && html`<button type="button" class="small" onClick=${() => onTry(model)} aria-label=${`Try the new model: ${told.name}`}>Try it</button>`}
      </div>
      ${running && html`<${Progress} told=${told} />`}
      ${told.state === "failed" && html`<p class="ending error" role="alert">${told.message || "It failed, and did not say why."}</p>`}
    </li>
  `;
}

function Progress({ told }) {
  const fraction = told.fraction ?? (told.total_bytes ? (told.done_bytes || 0) / told.total_bytes : undefined);
  return html`
    <progress key=${fraction === undefined} max="1" value=${fraction} aria-label=${`Importing ${told.name}`}></progress>
    <p class="hint import-step">${[told.step || "Starting", howFar(told, fraction)].filter(Boolean).join(" · ")}</p>
  `;
}

function howFar({ done_bytes: done, total_bytes: total }, fraction) {
  if (total) return `${bytes(done || 0)} of ${bytes(total)}`;
  if (done) return bytes(done);
  return fraction === undefined ? "" : percent(fraction);
}

function Cancel({ told }) {
  const [busy, setBusy] = useState(false);
  const cancel = async () => {
    setBusy(true);
    try {
      put(await postJson(`mesh/v1/imports/${encodeURIComponent(told.import_id)}:cancel`, {}));
    } catch (error) {
      notify(error.message, "error");
    }
    setBusy(false);
  };
  return html`<button type="button" class="small" disabled=${busy} onClick=${cancel} aria-label=${`Cancel the import of ${told.name}`}>Cancel</button>`;
}

// The models: what is loaded, on disk and importable; imports; and a place to try each kind.
import { html, useMemo, useState } from "../lib/html.js";
import { listModels } from "../lib/choices.js";
import { count, plural } from "../lib/format.js";
import { mesh } from "../lib/mesh_feed.js";
import { useStore } from "../lib/store.js";
import { addStyle } from "../lib/styles.js";
import { Dialog } from "../lib/ui.js";
import { ManageHint } from "../mesh/managing.js";
import { Imports } from "./imports.js";
import { ImportForm } from "./importing.js";
import { KNOWN } from "./known.js";
import { RemoveDialog } from "./removing.js";
import { ModelTable } from "./table.js";
import { TRIALS } from "./trials.js";

await addStyle("models");

// A trial that has loaded its model has moved the row with the button that opened it.
const focusLost = () => document.activeElement === document.body;

export function ModelsRoom() {
  const endpoints = useStore(mesh, (state) => state.endpoints);
  const imports = useStore(mesh, (state) => state.imports);
  const mayManage = useStore(mesh, (state) => state.mayManage);
  const [tried, setTried] = useState(null);
  const [removed, setRemoved] = useState(null);
  const [filled, setFilled] = useState(null);
  const models = listModels(endpoints);
  const known = KNOWN.filter(({ name }) => !models.some((model) => model.name === name));
  const tryOut = (model) => {
    if (model.kind === "generate") location.hash = `#/chat/new/${encodeURIComponent(model.name)}`;
    else setTried(model);
  };
  const endTrial = () => {
    setTried(null);
    requestAnimationFrame(() => focusLost() && document.querySelector(`[aria-label="Try it: ${CSS.escape(tried.name)}"]`)?.focus());
  };
  const fillIn = (model) => setFilled({ ...model });
  const trial = useMemo(() => tried && TRIALS[tried.kind] && html`<${TRIALS[tried.kind]} model=${tried} />`, [tried]); // not drawn again with the mesh
  return html`
    <div class="page-room">
      <div class="page-head">
        <div><h1>Models</h1><p>${plural(models.filter((model) => model.loadedOn.length).length, "model")} loaded, ${count(models.length)} known. A request for one that is not loaded loads it.</p></div>
      </div>
      <section class="card model-table">
        <${ModelTable} models=${models} known=${known} mayManage=${mayManage} onTry=${tryOut} onRemove=${setRemoved} onImport=${fillIn} />
      </section>
      <section class="card stack">
        <h2>Import a model</h2>
        <${Imports} imports=${imports} models=${models} mayManage=${mayManage} onTry=${tryOut} onAgain=${fillIn} />
        ${mayManage
          ? html`<${ImportForm} endpoints=${endpoints} filled=${filled} />`
          : html`<${ManageHint} what="load, import and remove models" /><p class="hint">Or use <code>infermesh models import SOURCE</code> on the machine whose workers shall have it.</p>`}
      </section>
    </div>
    ${trial && html`<${Dialog} title=${`Try ${tried.name}`} onClose=${endTrial}>${trial}<//>`}
    ${removed && html`<${RemoveDialog} model=${removed} onClose=${() => setRemoved(null)} />`}
  `;
}

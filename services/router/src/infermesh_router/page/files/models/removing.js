// Asks before a model's files are removed, and removes them.
import { html, useState } from "../lib/html.js";
import { call } from "../lib/api.js";
import { bytes } from "../lib/format.js";
import { endpointName, refresh } from "../lib/mesh_feed.js";
import { Dialog, notify } from "../lib/ui.js";

export function RemoveDialog({ model, onClose }) {
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const remove = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      const told = await (await call(`mesh/v1/models/${encodeURIComponent(model.name)}`, { method: "DELETE" })).json();
      await refresh();
      notify(`${model.name} was removed from ${(told.endpoints || []).map(endpointName).join(", ") || "the disk"}.`);
      onClose();
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  };
  const where = model.onDiskOf.map(endpointName).join(", ");
  return html`
    <${Dialog} title=${`Remove ${model.name}?`} onClose=${onClose} className="narrow">
      <form class="stack" onSubmit=${remove}>
        <p>Its files${model.size_bytes ? ` (weights of ${bytes(model.size_bytes)})` : ""} are deleted from the disk${where ? ` of ${where}` : ""}. To have it again, import it again.</p>
        ${problem && html`<p class="ending error" role="alert">${problem}</p>`}
        <div class="row end">
          <button type="button" onClick=${onClose}>Keep it</button>
          <button type="submit" class="danger" disabled=${busy}>${busy ? "Removing…" : "Remove"}</button>
        </div>
      </form>
    <//>
  `;
}

// What became of a request that the log names: its receipt, asked of the mesh.
import { html, useEffect, useState } from "../lib/html.js";
import { getJson } from "../lib/api.js";
import { Receipt } from "../lib/receipt.js";
import { Dialog } from "../lib/ui.js";

export function RequestDialog({ requestId, onClose }) {
  const [told, setTold] = useState(null);
  const ask = async () => {
    setTold(null);
    try {
      setTold({ receipt: await getJson(`mesh/v1/requests/${encodeURIComponent(requestId)}`) });
    } catch (error) {
      setTold({ problem: error.message });
    }
  };
  useEffect(() => void ask(), [requestId]);
  return html`
    <${Dialog} title="What became of the request" onClose=${onClose}>
      ${!told && html`<p class="hint" role="status">Asking…</p>`}
      ${told?.problem && html`<p role="alert">${told.problem}</p><div class="row end"><button type="button" onClick=${ask}>Ask again</button></div>`}
      ${told?.receipt && html`<${Receipt} receipt=${told.receipt} requestId=${requestId} />`}
    <//>
  `;
}

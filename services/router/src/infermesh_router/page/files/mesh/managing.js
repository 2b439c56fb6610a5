// Who may manage the mesh, and what others see in place of the buttons: a hint, and a question for a key.
import { html, useState } from "../lib/html.js";
import { setKey } from "../lib/api.js";
import { accepts, keep, MANAGE_HEADER } from "../lib/owner.js";
import { Dialog, notify } from "../lib/ui.js";

export function ManageHint({ what = "drain and load" }) {
  const [asked, setAsked] = useState(false);
  return html`
    <p class="hint">Open the page with <code>infermesh ui</code> to ${what}.
      ${" "}<button type="button" class="link" onClick=${() => setAsked(true)}>Enter a key</button></p>
    ${asked && html`<${ManageDialog} onClose=${() => setAsked(false)} />`}
  `;
}

function ManageDialog({ onClose }) {
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const key = typed.trim();
    try {
      if (await accepts({ [MANAGE_HEADER]: key })) keep(key);
      else if (await accepts({ authorization: `Bearer ${key}` })) setKey(key);
      else return setProblem("The mesh does not take this key for managing.");
    } catch {
      return setProblem("The mesh does not answer.");
    }
    notify("You may manage the mesh.");
    onClose();
  };
  return html`
    <${Dialog} title="Manage the mesh" onClose=${onClose} className="narrow">
      <form onSubmit=${submit} class="stack">
        <label class="field"><span>Key</span>
          <input type="password" autocomplete="off" required pattern="\\s*[\\x21-\\x7e]+\\s*" title="Letters, digits and signs" value=${typed} onInput=${(event) => setTyped(event.target.value)} />
        </label>
        ${problem && html`<p role="alert" class="wrong">${problem}</p>`}
        <p class="hint">The owner’s secret, which <code>infermesh ui --no-browser</code> prints behind <code>#manage=</code>, or a key of
          ${" "}<code>infermesh keys create NAME --admin</code>. It is kept in this browser.</p>
        <div class="row end"><button type="submit" class="primary">Use this key</button></div>
      </form>
    <//>
  `;
}

// What stands at the header's end: how the mesh is, the theme, and the question for an API key.
import { access, setKey } from "./api.js";
import { plural } from "./format.js";
import { html, useState } from "./html.js";
import { mesh } from "./mesh_feed.js";
import { useStore } from "./store.js";
import { theme, turnTheme } from "./theme.js";
import { Dialog, IconButton } from "./ui.js";

export function MeshSign() {
  const status = useStore(mesh, (state) => state.status);
  const endpoints = useStore(mesh, (state) => state.endpoints);
  const ready = endpoints.filter((each) => each.state === "ready").length;
  const { kind, text } = describe(status, ready, endpoints.length);
  return html`<a class="sign" href="#/mesh" title="What the mesh does now"><span class=${`dot ${kind}`} aria-hidden="true"></span><span>${text}</span></a>`;
}

function describe(status, ready, all) {
  if (status === "lost") return { kind: "bad", text: "no connection" };
  if (status === "connecting") return { kind: "idle", text: "connecting" };
  if (!ready) return { kind: "bad", text: all ? "no endpoint ready" : "no endpoints" };
  return { kind: ready < all ? "warn" : "good", text: ready < all ? `${ready} of ${all} ready` : `${plural(all, "endpoint")} ready` };
}

export function ThemeButton() {
  const dark = useStore(theme, (state) => state.dark);
  return html`<${IconButton} icon=${dark ? "sun" : "moon"} label=${dark ? "Light theme" : "Dark theme"} onClick=${turnTheme} />`;
}

// Asks for a key when a call was refused without one.
export function KeyDialog() {
  const { wanted, key } = useStore(access);
  const [typed, setTyped] = useState(key);
  if (!wanted) return null;
  const submit = (event) => {
    event.preventDefault();
    setKey(typed.trim());
  };
  return html`
    <${Dialog} title="API key" onClose=${() => access.set({ wanted: "" })} className="narrow">
      <form onSubmit=${submit} class="stack">
        <p>${wanted}</p>
        <label class="field"><span>Key</span>
          <input type="password" autocomplete="off" autofocus value=${typed} onInput=${(event) => setTyped(event.target.value)} />
        </label>
        <p class="hint">It is kept in this browser. <code>infermesh keys create</code> makes one.</p>
        <div class="row end"><button type="submit" class="primary">Use this key</button></div>
      </form>
    <//>
  `;
}

// The button that starts a run and, while it runs, the one that stops it; and the keys for both.
import { html, useLayoutEffect, useRef } from "../lib/html.js";

// Of a double click, the second click meets the button that has come to the place of the first one.
const once = (act) => (event) => (event.detail > 1 ? event.preventDefault() : act?.());

export function RunButton({ running, disabled, onStop, children }) {
  const frame = useRef(null);
  const focused = frame.current?.contains(document.activeElement);
  useLayoutEffect(() => {
    if (focused) frame.current.firstElementChild.focus(); // the button that had it is gone
  }, [running]);
  useLayoutEffect(() => { // before the button is seen
    if (!running) return undefined;
    const pressed = (event) => {
      const isShown = frame.current.offsetParent !== null; // another view may be
      if (event.key === "Escape" && isShown && !event.isComposing && !document.querySelector("dialog[open]")) onStop();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [running, onStop]);
  return html`
    <span ref=${frame}>
      ${running
        ? html`<button key="stop" type="button" onClick=${once(onStop)}>Stop</button>`
        : html`<button key="run" type="submit" class="primary" disabled=${disabled} onClick=${once()}>${children}</button>`}
    </span>
  `;
}

// For a form: Ctrl+Enter runs, as its button would.
export function runKey(event) {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  event.currentTarget.querySelector("[type=submit]:enabled")?.click();
}

// Parts that every room uses: dialogs, short notices, icon buttons, empty states.
import { html, useEffect, useRef } from "./html.js";
import { Icon } from "./icons.js";
import { createStore, useStore } from "./store.js";

// A modal dialog; the browser keeps the focus in it, and Escape closes it.
export function Dialog({ title, onClose, children, className = "" }) {
  const ref = useRef(null);
  useEffect(() => {
    const dialog = ref.current;
    dialog.showModal();
    return () => dialog.open && dialog.close();
  }, []);
  const outside = (event) => event.target === ref.current && onClose();
  return html`
    <dialog ref=${ref} class=${className} aria-label=${title} onClose=${onClose} onClick=${outside}>
      <div class="dialog-body">
        <header class="dialog-head">
          <h2>${title}</h2>
          <${IconButton} icon="close" label="Close" onClick=${onClose} />
        </header>
        ${children}
      </div>
    </dialog>
  `;
}

export const IconButton = ({ icon, label, onClick, className = "", ...others }) => html`
  <button type="button" class=${`icon-button ${className}`} aria-label=${label} title=${label} onClick=${onClick} ...${others}>
    <${Icon} name=${icon} />
  </button>
`;

const notices = createStore({ list: [] });
let nextNotice = 1;

// Says something for some seconds: what was done, or why it could not be.
export function notify(text, kind = "info") {
  const notice = { id: nextNotice++, text, kind };
  notices.set(({ list }) => ({ list: [...list, notice].slice(-3) }));
  setTimeout(() => notices.set(({ list }) => ({ list: list.filter((each) => each !== notice) })), kind === "error" ? 8000 : 4000);
}

export function Notices() {
  const { list } = useStore(notices);
  return html`
    <div class="notices" role="status" aria-live="polite">
      ${list.map(({ id, text, kind }) => html`<p key=${id} class=${`notice ${kind}`}>${text}</p>`)}
    </div>
  `;
}

export const Empty = ({ title, children }) => html`
  <div class="empty"><h2>${title}</h2><p>${children}</p></div>
`;

// Whether a key says that a text is complete. While an input method composes, Enter chooses a word; Safari tells of that
// Enter after the composition has ended, and only by its code.
export const isPlainEnter = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

// A file for the user's disk.
export function download(name, text, type = "application/json") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const readFile = (file, as = "text") =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    if (as === "url") reader.readAsDataURL(file);
    else reader.readAsText(file);
  });

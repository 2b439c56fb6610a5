// The list of conversations: open, rename, delete, find, export, import.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { day } from "../lib/format.js";
import { Icon } from "../lib/icons.js";
import { useStore } from "../lib/store.js";
import { Dialog, IconButton, notify, readFile } from "../lib/ui.js";
import { stopById } from "./answering.js";
import { chats, exportAll, findInMessages, importAll, remove, rename, startNew } from "./conversations.js";

export function Sidebar({ open, onClose }) {
  const heads = useStore(chats, (state) => state.heads);
  const [sought, setSought] = useState("");
  const [asked, setAsked] = useState(null);
  const found = useFound(sought.trim());
  const shown = heads.filter((head) => head.title.toLowerCase().includes(sought.trim().toLowerCase()) || found.has(head.id));
  const begin = () => {
    location.hash = "#/chat";
    startNew();
    onClose();
    document.getElementById("message")?.focus();
  };
  return html`
    <aside class="sidebar" aria-label="Conversations">
      <button type="button" class="new-chat" onClick=${begin} title="New chat (Ctrl+Shift+O)">
        <${Icon} name="plus" /> New chat
      </button>
      ${(heads.length > 5 || sought) && html`
        <input type="search" class="seek" placeholder="Find in chats" aria-label="Find in chats" value=${sought}
          onInput=${(event) => setSought(event.target.value)} />`}
      <ul class="heads">
        ${shown.map((head) => html`
          <li key=${head.id} class=${head.id === open.id ? "current" : ""}>
            <a href=${`#/chat/${head.id}`} onClick=${onClose} aria-current=${head.id === open.id ? "true" : undefined}>
              <span class="head-title" dir="auto">${head.title}</span>
              <span class="head-day">${day(head.updated)}</span>
            </a>
            <span class="head-actions">
              <${IconButton} icon="edit" label=${`Rename ${head.title}`} onClick=${() => setAsked({ head, what: "rename" })} />
              <${IconButton} icon="trash" label=${`Delete ${head.title}`} onClick=${() => setAsked({ head, what: "delete" })} />
            </span>
          </li>`)}
      </ul>
      ${heads.length > 0 && !shown.length && html`<p class="hint" role="status">No chat has this.</p>`}
      ${!heads.length && html`<p class="hint">Chats are kept in this browser, and nowhere else.</p>`}
      <${Files} any=${heads.length > 0} />
    </aside>
    <button type="button" class="shade" aria-label="Close the list" onClick=${onClose}></button>
    ${asked?.what === "rename" && html`<${Rename} head=${asked.head} onClose=${() => setAsked(null)} />`}
    ${asked?.what === "delete" && html`<${Delete} head=${asked.head} isOpen=${asked.head.id === open.id} onClose=${() => setAsked(null)} />`}
  `;
}

const TYPING_MS = 200;

// The ids of the chats that have a text in their messages, sought when the typing has stopped; titles are sought at once.
function useFound(text) {
  const [found, setFound] = useState(new Set());
  useEffect(() => {
    if (text.length < 2) return void setFound(new Set());
    let current = true;
    const find = () => findInMessages(text, () => current).then((ids) => current && setFound(ids), () => {});
    const timer = setTimeout(find, TYPING_MS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [text]);
  return found;
}

function Files({ any }) {
  const input = useRef(null);
  const take = async (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (!file) return;
    try {
      const { added, known } = await importAll(await readFile(file));
      const already = known ? ` ${known === 1 ? "1 was" : `${known} were`} here already.` : "";
      notify(`${added === 1 ? "1 chat was" : `${added || "No"} chats were`} added.${already}`);
    } catch (error) {
      notify(error.message, "error");
    }
  };
  return html`
    <div class="files">
      <button type="button" class="quiet" onClick=${exportAll} disabled=${!any}><${Icon} name="export" /> Export</button>
      <button type="button" class="quiet" onClick=${() => input.current.click()}><${Icon} name="import" /> Import</button>
      <input ref=${input} type="file" accept="application/json,.json" hidden aria-label="File of chats" onChange=${take} />
    </div>
  `;
}

function Rename({ head, onClose }) {
  const [title, setTitle] = useState(head.title);
  const submit = async (event) => {
    event.preventDefault();
    await rename(head.id, title);
    onClose();
  };
  return html`
    <${Dialog} title="Rename the chat" onClose=${onClose} className="narrow">
      <form class="stack" onSubmit=${submit}>
        <label class="field"><span>Name</span>
          <input value=${title} autofocus onFocus=${(event) => event.target.select()} onInput=${(event) => setTitle(event.target.value)} maxlength="120" />
        </label>
        <div class="row end"><button type="submit" class="primary" disabled=${!title.trim()}>Rename</button></div>
      </form>
    <//>
  `;
}

function Delete({ head, isOpen, onClose }) {
  const confirm = async () => {
    stopById(head.id);
    await remove(head.id);
    if (isOpen) location.hash = "#/chat";
    onClose();
  };
  return html`
    <${Dialog} title="Delete the chat?" onClose=${onClose} className="narrow">
      <p>“${head.title}” is removed from this browser. It cannot be brought back.</p>
      <div class="row end">
        <button type="button" onClick=${onClose}>Keep it</button>
        <button type="button" class="danger" onClick=${confirm}>Delete</button>
      </div>
    <//>
  `;
}

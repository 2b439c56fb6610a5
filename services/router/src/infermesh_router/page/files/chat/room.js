// The chat: conversations at the side, the open one in the middle, and what it is asked with below.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { listModels } from "../lib/choices.js";
import { findEndpoint, mesh } from "../lib/mesh_feed.js";
import { useStore } from "../lib/store.js";
import { IconButton, notify } from "../lib/ui.js";
import { isRunning, send, stop } from "./answering.js";
import { Composer } from "./composer.js";
import { chats, change, loadHeads, openConversation, startNew } from "./conversations.js";
import { SettingsDialog } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Thread } from "./thread.js";
import { Welcome } from "./welcome.js";
import { ROOT, pathOf } from "./tree.js";

const KINDS = new Set(["gpu", "cpu"]); // devices that name no endpoint

export function ChatRoom({ rest }) {
  const { open } = useStore(chats);
  const [dialog, setDialog] = useState("");
  const [listed, setListed] = useState(false);
  useEffect(() => void loadHeads(), []);
  useOpened(rest, open);
  useDefaults(open);
  useShortcuts(open);
  if (!open) return html`<p class="loading" role="status">Opening…</p>`;
  const path = pathOf(open);
  const running = isRunning(open);
  const submit = (message) => {
    try {
      send(open, path.at(-1)?.id ?? ROOT, message);
    } catch (error) {
      notify(mesh.get().status === "lost" && !open.settings.model ? "The mesh does not answer, so there is no model to ask." : error.message, "error");
      return false;
    }
    if (rest[0] !== open.id) location.hash = `#/chat/${open.id}`;
    return true;
  };
  const begin = () => {
    location.hash = "#/chat";
    startNew();
  };
  return html`
    <div class=${`chat ${listed ? "listed" : ""}`}>
      <${Sidebar} open=${open} onClose=${() => setListed(false)} />
      <div class="talk">
        <div class="talk-head">
          <${IconButton} icon="menu" label="Conversations" className="list-button" onClick=${() => setListed(!listed)} />
          <h1 dir="auto">${open.title}</h1>
          ${path.length > 0 && html`<${IconButton} icon="plus" label="New chat" onClick=${begin} />`}
        </div>
        ${path.length
          ? html`<${Thread} key=${open.id} conversation=${open} path=${path} />`
          : html`<${Welcome} onPick=${(content) => submit({ content })} />`}
        <${Composer} key=${`composer-${open.id}`} conversation=${open} running=${running} onSend=${submit}
          onStop=${() => stop(open)} onSettings=${() => setDialog("settings")} />
      </div>
    </div>
    ${dialog === "settings" && html`<${SettingsDialog} settings=${open.settings} onClose=${() => setDialog("")} />`}
  `;
}

// Opens the conversation that the address names; without one, a new one, or who comes from another room finds the one that
// was open. `new/MODEL` begins one with that model.
function useOpened([id, model], open) {
  const coming = useRef(true);
  useEffect(() => {
    const back = coming.current && open && Object.keys(open.nodes).length > 0;
    coming.current = false;
    if (id === "new") {
      startNew();
      if (model) change({ model });
      location.hash = "#/chat";
      return;
    }
    if (!id && back) {
      location.replace(`#/chat/${open.id}`);
      return;
    }
    if (!id) {
      if (!open || Object.keys(open.nodes).length) startNew();
      return;
    }
    const place = location.hash;
    openConversation(id).then((found) => {
      if (found || location.hash !== place) return;
      notify("This browser does not have that conversation.", "error");
      location.hash = "#/chat";
    });
  }, [id, model]);
  useEffect(() => {
    if (!open) startNew();
  }, [open]);
}

// A conversation whose model is not chosen takes the first that is loaded. A new one does not begin with a model or an
// endpoint that was used last and is gone now.
function useDefaults(open) {
  const endpoints = useStore(mesh, (state) => state.endpoints);
  useEffect(() => {
    if (!open) return;
    const models = listModels(endpoints, "generate");
    if (!models.length) return;
    const { model, device } = open.settings, isNew = !Object.keys(open.nodes).length;
    const isHere = models.some((each) => each.name === model);
    if (!model || (!isHere && isNew)) change({ model: models[0].name });
    if (isNew && device && !KINDS.has(device) && !findEndpoint(device)) change({ device: "" });
  }, [open, endpoints]);
}

function useShortcuts(open) {
  useEffect(() => {
    const pressed = (event) => {
      const typing = event.target.closest?.("input, textarea, select, dialog");
      const inside = typing && event.target.id !== "message"; // Escape closes dialogs and editors first
      if (event.key === "O" && event.ctrlKey && event.shiftKey) {
        event.preventDefault();
        location.hash = "#/chat";
        startNew();
      } else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        document.getElementById("message")?.focus();
      } else if (event.key === "Escape" && !inside && !event.isComposing && open && isRunning(open)) {
        stop(open);
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [open]);
}

// A message of the user: its text and pictures, and how it is edited, which begins a branch.
import { html, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { copyText } from "../lib/copy.js";
import { IconButton, isPlainEnter, notify } from "../lib/ui.js";
import { isRunning, send } from "./answering.js";
import { Branches } from "./branches.js";

export function Question({ conversation, node }) {
  const [editing, setEditing] = useState(false);
  const again = (content) => {
    try {
      send(conversation, node.parent, { content, images: node.images });
    } catch (error) {
      notify(error.message, "error");
    }
  };
  if (editing) return html`<${Editor} text=${node.content} busy=${isRunning(conversation)} onSend=${again} onClose=${() => setEditing(false)} />`;
  return html`
    <article class="question" aria-label="You">
      ${node.images?.map((url, i) => html`<img key=${i} class="sent-picture" src=${url} alt=${`Picture ${i + 1}`} />`)}
      ${node.content && html`<div class="bubble" dir="auto">${node.content}</div>`}
      <div class="actions">
        <${Branches} conversation=${conversation} node=${node} />
        <${IconButton} icon="copy" label="Copy the message" onClick=${() => copyText(node.content).then((done) => done && notify("Copied."))} />
        <${IconButton} icon="edit" label="Edit and send again" disabled=${isRunning(conversation)} onClick=${() => setEditing(true)} />
      </div>
    </article>
  `;
}

function Editor({ text, busy, onSend, onClose }) {
  const [typed, setTyped] = useState(text);
  const area = useRef(null);
  useLayoutEffect(() => {
    area.current.focus();
    area.current.setSelectionRange(text.length, text.length);
  }, []);
  const submit = (event) => {
    event.preventDefault();
    if (!typed.trim() || busy) return;
    onClose();
    onSend(typed.trim());
  };
  const pressed = (event) => {
    if (event.key === "Escape") onClose();
    else if (isPlainEnter(event)) submit(event);
  };
  return html`
    <form class="editor" onSubmit=${submit}>
      <textarea ref=${area} rows=${Math.min(12, typed.split("\n").length + 1)} dir="auto" aria-label="Edit the message" value=${typed}
        onInput=${(event) => setTyped(event.target.value)} onKeyDown=${pressed}></textarea>
      <div class="row end">
        <span class="hint spacer">The old message and its answers stay as a branch.</span>
        <button type="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="primary" disabled=${!typed.trim() || busy} title=${busy ? "An answer is still coming" : undefined}>Send</button>
      </div>
    </form>
  `;
}
